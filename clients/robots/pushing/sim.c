/* SPDX-License-Identifier: Apache-2.0
 * The pushing world over Chipmunk2D (sim.h); the only file that includes it.
 *
 * The pusher is a kinematic body: it goes where its velocity takes it and the box gives way, as a stiff position
 * controlled robot does. Friction between the two is the product of their coefficients. The box's friction with the
 * ground is the space's damping: of a velocity, 1e-4 is left after one second. */
#include "robots/pushing/sim.h"

#include <chipmunk/chipmunk.h>
#include <math.h>
#include <stdlib.h>

#define PX         100.0 /* px per unit */
#define DT         (1.0 / ESP_PUSH_SUBSTEPS)
#define DAMPING    1e-4
#define ITERATIONS 10

struct esp_push_world {
    cpSpace *space;
    cpBody *box, *pusher;
    cpShape *box_shape, *pusher_shape;
};

static const double corner_signs[ESP_PUSH_KEYPOINTS][2] = {{-1, -1}, {1, -1}, {1, 1}, {-1, 1}};

void esp_push_corners(esp_pose pose, double ret_corners[2 * ESP_PUSH_KEYPOINTS]) {
    double c = cos(pose.angle), s = sin(pose.angle);
    for (int k = 0; k < ESP_PUSH_KEYPOINTS; k++) {
        double x = ESP_PUSH_HALF * corner_signs[k][0], y = ESP_PUSH_HALF * corner_signs[k][1];
        ret_corners[2 * k] = pose.x + c * x - s * y;
        ret_corners[2 * k + 1] = pose.y + s * x + c * y;
    }
}

double esp_push_distance(esp_pose pose, double x, double y) {
    double c = cos(pose.angle), s = sin(pose.angle), dx = x - pose.x, dy = y - pose.y;
    double out_x = fmax(0.0, fabs(c * dx + s * dy) - ESP_PUSH_HALF), out_y = fmax(0.0, fabs(-s * dx + c * dy) - ESP_PUSH_HALF);
    return hypot(out_x, out_y);
}

static cpShape *add_shape(cpSpace *space, cpShape *shape, double elasticity, double friction) {
    cpShapeSetElasticity(shape, elasticity);
    cpShapeSetFriction(shape, friction);
    return cpSpaceAddShape(space, shape);
}

esp_push_world *esp_push_create(esp_pose box, double pusher_x, double pusher_y) {
    esp_push_world *world = calloc(1, sizeof *world);
    if (world == NULL) return NULL;
    const double side = 2 * ESP_PUSH_HALF * PX, mass = 0.5;
    world->space = cpSpaceNew();
    cpSpaceSetIterations(world->space, ITERATIONS);
    cpSpaceSetGravity(world->space, cpvzero);
    cpSpaceSetDamping(world->space, DAMPING);
    world->box = cpSpaceAddBody(world->space, cpBodyNew(mass, cpMomentForBox(mass, side, side)));
    cpBodySetPosition(world->box, cpv(box.x * PX, box.y * PX));
    cpBodySetAngle(world->box, box.angle);
    world->box_shape = add_shape(world->space, cpBoxShapeNew(world->box, side, side, 0.0), 0.1, 0.1);
    world->pusher = cpSpaceAddBody(world->space, cpBodyNewKinematic());
    cpBodySetPosition(world->pusher, cpv(pusher_x * PX, pusher_y * PX));
    world->pusher_shape = add_shape(world->space, cpCircleShapeNew(world->pusher, ESP_PUSH_RADIUS * PX, cpvzero), 0.1, 0.6);
    return world;
}

void esp_push_free(esp_push_world *world) {
    if (world == NULL) return;
    cpSpaceRemoveShape(world->space, world->box_shape);
    cpSpaceRemoveShape(world->space, world->pusher_shape);
    cpSpaceRemoveBody(world->space, world->box);
    cpSpaceRemoveBody(world->space, world->pusher);
    cpShapeFree(world->box_shape);
    cpShapeFree(world->pusher_shape);
    cpBodyFree(world->box);
    cpBodyFree(world->pusher);
    cpSpaceFree(world->space);
    free(world);
}

static void note_contact(cpBody *body, cpArbiter *arbiter, void *touched) {
    (void)body;
    if (cpArbiterGetCount(arbiter) > 0) *(bool *)touched = true;
}

bool esp_push_step(esp_push_world *world, const double u[ESP_PUSH_NU]) {
    double move[2];
    for (int i = 0; i < 2; i++) move[i] = PX * fmax(-ESP_PUSH_U_MAX, fmin(ESP_PUSH_U_MAX, u[i]));
    cpVect start = cpBodyGetPosition(world->pusher);
    bool touched = false;
    cpBodySetVelocity(world->pusher, cpv(move[0], move[1])); /* per second, and an action lasts one */
    for (int i = 0; i < ESP_PUSH_SUBSTEPS; i++) {
        cpSpaceStep(world->space, DT);
        if (!touched) cpBodyEachArbiter(world->pusher, note_contact, &touched);
    }
    /* The sum of sixty increments is not quite u: the commanded place is exact. */
    cpBodySetPosition(world->pusher, cpvadd(start, cpv(move[0], move[1])));
    cpBodySetVelocity(world->pusher, cpvzero);
    cpBodySetVelocity(world->box, cpvzero);
    cpBodySetAngularVelocity(world->box, 0.0);
    return touched;
}

void esp_push_pusher(const esp_push_world *world, double *ret_x, double *ret_y) {
    cpVect p = cpBodyGetPosition(world->pusher);
    *ret_x = p.x / PX;
    *ret_y = p.y / PX;
}

void esp_push_observe(const esp_push_world *world, double ret_y[ESP_PUSH_NY]) {
    cpVect at = cpBodyGetPosition(world->box);
    double pusher[2];
    esp_push_corners((esp_pose){at.x / PX, at.y / PX, cpBodyGetAngle(world->box)}, ret_y);
    esp_push_pusher(world, &pusher[0], &pusher[1]);
    for (int i = 0; i < 2 * ESP_PUSH_KEYPOINTS; i++) ret_y[2 * ESP_PUSH_KEYPOINTS + i] = ret_y[i] - pusher[i % 2];
}
