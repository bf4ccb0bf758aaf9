/* SPDX-License-Identifier: Apache-2.0
 * The sorting world over Chipmunk2D (sim.h). The pusher is a kinematic body that lies far away between pushes. */
#include "robots/sorting/sim.h"

#include <chipmunk/chipmunk.h>
#include <math.h>
#include <stdlib.h>

#define PX         100.0 /* px per unit */
#define SUBSTEPS   60
#define DAMPING    1e-4
#define ITERATIONS 10
#define AWAY       1e5 /* px */

struct esp_sort_world {
    cpSpace *space;
    int n;
    cpBody *body[ESP_SORT_DISCS_MAX + 1]; /* the pusher behind the discs */
    cpShape *shape[ESP_SORT_DISCS_MAX + 1];
};

static void add_round(esp_sort_world *world, int i, cpBody *body, double radius, double friction) {
    world->body[i] = cpSpaceAddBody(world->space, body);
    world->shape[i] = cpSpaceAddShape(world->space, cpCircleShapeNew(body, radius * PX, cpvzero));
    cpShapeSetElasticity(world->shape[i], 0.1);
    cpShapeSetFriction(world->shape[i], friction);
}

esp_sort_world *esp_sort_create(int n, const double *centres) {
    esp_sort_world *world = calloc(1, sizeof *world);
    if (world == NULL) return NULL;
    world->n = n;
    world->space = cpSpaceNew();
    cpSpaceSetIterations(world->space, ITERATIONS);
    cpSpaceSetDamping(world->space, DAMPING);
    for (int i = 0; i < n; i++) {
        add_round(world, i, cpBodyNew(1.0, cpMomentForCircle(1.0, 0.0, ESP_SORT_RADIUS * PX, cpvzero)), ESP_SORT_RADIUS, 0.6);
        cpBodySetPosition(world->body[i], cpv(centres[2 * i] * PX, centres[2 * i + 1] * PX));
    }
    add_round(world, n, cpBodyNewKinematic(), ESP_SORT_PUSHER, 0.6);
    cpBodySetPosition(world->body[n], cpv(AWAY, AWAY));
    return world;
}

void esp_sort_free(esp_sort_world *world) {
    if (world == NULL) return;
    for (int i = 0; i <= world->n; i++) {
        cpSpaceRemoveShape(world->space, world->shape[i]);
        cpSpaceRemoveBody(world->space, world->body[i]);
        cpShapeFree(world->shape[i]);
        cpBodyFree(world->body[i]);
    }
    cpSpaceFree(world->space);
    free(world);
}

static void note_contact(cpBody *body, cpArbiter *arbiter, void *touched) {
    (void)body;
    if (cpArbiterGetCount(arbiter) > 0) *(bool *)touched = true;
}

bool esp_sort_push(esp_sort_world *world, const double u[ESP_SORT_NU]) {
    double at[ESP_SORT_NU];
    cpBody *pusher = world->body[world->n];
    bool touched = false;
    for (int i = 0; i < ESP_SORT_NU; i++) at[i] = PX * fmax(-ESP_SORT_U_MAX, fmin(ESP_SORT_U_MAX, u[i]));
    cpBodySetPosition(pusher, cpv(at[0], at[1]));
    cpBodySetVelocity(pusher, cpv(at[2], at[3])); /* per second, and a push lasts one */
    cpSpaceReindexShapesForBody(world->space, pusher);
    for (int i = 0; i < SUBSTEPS; i++) {
        cpSpaceStep(world->space, 1.0 / SUBSTEPS);
        if (!touched) cpBodyEachArbiter(pusher, note_contact, &touched);
    }
    cpBodySetVelocity(pusher, cpvzero);
    cpBodySetPosition(pusher, cpv(AWAY, AWAY));
    cpSpaceReindexShapesForBody(world->space, pusher);
    for (int i = 0; i < world->n; i++) {
        cpBodySetVelocity(world->body[i], cpvzero);
        cpBodySetAngularVelocity(world->body[i], 0.0);
    }
    return touched;
}

void esp_sort_observe(const esp_sort_world *world, double *ret_y) {
    for (int i = 0; i < world->n; i++) {
        cpVect at = cpBodyGetPosition(world->body[i]);
        ret_y[2 * i] = at.x / PX;
        ret_y[2 * i + 1] = at.y / PX;
    }
}
