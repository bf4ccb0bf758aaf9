/* SPDX-License-Identifier: Apache-2.0
 * The rope over Chipmunk2D (sim.h).
 *
 * A spring of stiffness k on beads of mass m swings with sqrt(k / m) each way and, in a chain, at most twice that: 100 rad/s here, and
 * the step is 1/100 s, inside the 2 rad a step within which explicit springs stay stable. Damping leaves 1e-4 of a velocity after a
 * second, so a pulled rope follows its end. */
#include "robots/rope/sim.h"

#include <chipmunk/chipmunk.h>
#include <math.h>
#include <stdlib.h>

#define PX         100.0
#define SUBSTEPS   100
#define ITERATIONS 3 /* of the friction inside springs */
#define DAMPING    1e-4
#define MASS       1.0
#define STIFF      2500.0 /* of a link, per unit of mass */
#define BENDING    100.0 /* between next neighbours */
#define FRICTION   5.0 /* inside a spring */
#define N_SPRINGS  (2 * ESP_ROPE_BEADS - 3)
#define STRIDE     ((ESP_ROPE_BEADS - 1) / (ESP_ROPE_KEYPOINTS - 1))

struct esp_rope {
    cpSpace *space;
    cpBody *bead[ESP_ROPE_BEADS];
    cpConstraint *spring[N_SPRINGS];
};

/* Spring i: the links first, then those over two links. */
static void ends_of(int i, int *ret_from, int *ret_to) {
    bool link = i < ESP_ROPE_BEADS - 1;
    *ret_from = link ? i : i - (ESP_ROPE_BEADS - 1);
    *ret_to = *ret_from + (link ? 1 : 2);
}

static void add_springs(esp_rope *rope) {
    for (int i = 0; i < N_SPRINGS; i++) {
        int from, to;
        ends_of(i, &from, &to);
        double rest = (to - from) * ESP_ROPE_SPACING * PX, stiffness = MASS * (to - from == 1 ? STIFF : BENDING);
        rope->spring[i] = cpSpaceAddConstraint(
            rope->space, cpDampedSpringNew(rope->bead[from], rope->bead[to], cpvzero, cpvzero, rest, stiffness, MASS * FRICTION));
    }
}

esp_rope *esp_rope_create(double x, double y, double angle, double bend) {
    esp_rope *rope = calloc(1, sizeof *rope);
    if (rope == NULL) return NULL;
    rope->space = cpSpaceNew();
    cpSpaceSetGravity(rope->space, cpvzero);
    cpSpaceSetIterations(rope->space, ITERATIONS);
    cpSpaceSetDamping(rope->space, DAMPING);
    cpVect at = cpv(x * PX, y * PX);
    for (int i = 0; i < ESP_ROPE_BEADS; i++) {
        rope->bead[i] = cpSpaceAddBody(rope->space, i == 0 ? cpBodyNewKinematic() : cpBodyNew(MASS, INFINITY));
        cpBodySetPosition(rope->bead[i], at);
        at = cpvadd(at, cpvmult(cpvforangle(angle + i * bend), ESP_ROPE_SPACING * PX));
    }
    add_springs(rope);
    return rope;
}

void esp_rope_free(esp_rope *rope) {
    if (rope == NULL) return;
    for (int i = 0; i < N_SPRINGS; i++) {
        cpSpaceRemoveConstraint(rope->space, rope->spring[i]);
        cpConstraintFree(rope->spring[i]);
    }
    for (int i = 0; i < ESP_ROPE_BEADS; i++) {
        cpSpaceRemoveBody(rope->space, rope->bead[i]);
        cpBodyFree(rope->bead[i]);
    }
    cpSpaceFree(rope->space);
    free(rope);
}

void esp_rope_step(esp_rope *rope, const double u[ESP_ROPE_NU]) {
    double move[2];
    for (int i = 0; i < 2; i++) move[i] = PX * fmax(-ESP_ROPE_U_MAX, fmin(ESP_ROPE_U_MAX, u[i]));
    cpVect end = cpvadd(cpBodyGetPosition(rope->bead[0]), cpv(move[0], move[1]));
    cpBodySetVelocity(rope->bead[0], cpv(move[0], move[1])); /* per second, and an action lasts one */
    for (int i = 0; i < SUBSTEPS; i++) cpSpaceStep(rope->space, 1.0 / SUBSTEPS);
    /* The sum of the increments is not quite u: the commanded place is exact. */
    cpBodySetPosition(rope->bead[0], end);
    for (int i = 0; i < ESP_ROPE_BEADS; i++) cpBodySetVelocity(rope->bead[i], cpvzero);
}

void esp_rope_bead(const esp_rope *rope, int bead, double *ret_x, double *ret_y) {
    cpVect at = cpBodyGetPosition(rope->bead[bead]);
    *ret_x = at.x / PX;
    *ret_y = at.y / PX;
}

void esp_rope_observe(const esp_rope *rope, double ret_y[ESP_ROPE_NY]) {
    for (int k = 0; k < ESP_ROPE_KEYPOINTS; k++) esp_rope_bead(rope, k * STRIDE, &ret_y[2 * k], &ret_y[2 * k + 1]);
}

double esp_rope_energy(const esp_rope *rope) {
    double energy = 0.0;
    for (int i = 0; i < N_SPRINGS; i++) {
        int from, to;
        ends_of(i, &from, &to);
        double length = cpvdist(cpBodyGetPosition(rope->bead[from]), cpBodyGetPosition(rope->bead[to])) / PX;
        double stretch = length - (to - from) * ESP_ROPE_SPACING;
        energy += 0.5 * stretch * stretch * (to - from == 1 ? 1.0 : BENDING / STIFF);
    }
    return energy;
}
