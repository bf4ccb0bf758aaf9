/* SPDX-License-Identifier: Apache-2.0
 * The functions and the distances (pieces.h). */
#include "paper/pieces.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { PIECES = 4, POINTS = ESP_PIECES_GRID * ESP_PIECES_GRID };

const esp_pieces esp_pieces_functions[ESP_PIECES_FUNCTIONS] = {
    {.name = "saddle", .a = {0.3, -0.2}, .c = 0.1, .b = {1.0, -0.9}, .w = {{0.9, 0.44}, {-0.4, 0.92}}, .d = {0.1, -0.05}},
    {.name = "valley", .a = {-0.5, -0.3}, .c = 0.2, .b = {0.8, 1.1}, .w = {{0.8, -0.6}, {0.25, 0.97}}, .d = {0.15, 0.1}},
    {.name = "bent", .a = {-0.4, 0.1}, .c = 0, .b = {0.8, 1.1}, .w = {{0.95, -0.3}, {0.2, 0.98}}, .d = {0.0531, 0.1073}, .e = -1.2},
};

double esp_pieces_value(const esp_pieces *f, const double x[2], int *ret_piece, double ret_slope[2]) {
    double p1 = f->w[0][0] * x[0] + f->w[0][1] * x[1] + f->d[0], r1 = fmax(0, p1);
    double p2 = f->w[1][0] * x[0] + f->w[1][1] * x[1] + f->d[1] + f->e * r1;
    if (ret_piece) *ret_piece = (p1 > 0) | (p2 > 0) << 1;
    for (int i = 0; ret_slope && i < 2; i++)
        ret_slope[i] = f->a[i] + (p1 > 0) * f->b[0] * f->w[0][i] + (p2 > 0) * f->b[1] * (f->w[1][i] + (p1 > 0) * f->e * f->w[0][i]);
    return f->a[0] * x[0] + f->a[1] * x[1] + f->c + f->b[0] * r1 + f->b[1] * fmax(0, p2);
}

/* Signatures (which ReLUs are on) as they are met, each with its points by true piece. */
typedef struct regions {
    size_t n, cap;
    uint64_t *signature;
    size_t (*count)[PIECES];
} regions;

static uint64_t signature(const double *p, int n) {
    uint64_t hash = 14695981039346656037u;
    for (int i = 0; i < n; i++) hash = (hash ^ (p[i] > 0)) * 1099511628211u;
    return hash;
}

static void note(regions *r, uint64_t of, int piece) {
    size_t i = 0;
    while (i < r->n && r->signature[i] != of) i++;
    if (i == r->cap) return;
    if (i == r->n) r->signature[r->n++] = of;
    r->count[i][piece]++;
}

static double wrong_share(const regions *r) {
    size_t right = 0;
    for (size_t i = 0; i < r->n; i++) {
        size_t most = 0;
        for (int k = 0; k < PIECES; k++) most = r->count[i][k] > most ? r->count[i][k] : most;
        right += most;
    }
    return 1 - (double)right / POINTS;
}

/* The largest distance of two gradients of f among the pieces met. */
static double largest_step(const double slope[PIECES][2], const bool *met) {
    double step = 0;
    for (int i = 0; i < PIECES; i++)
        for (int k = 0; k < i; k++)
            if (met[i] && met[k]) step = fmax(step, hypot(slope[i][0] - slope[k][0], slope[i][1] - slope[k][1]));
    return step;
}

static void compare(const esp_pieces *f, const esp_program *program, regions *r, double *work, esp_pieces_distance *ret) {
    double squares = 0, slopes = 0, low = INFINITY, high = -INFINITY, slope_of[PIECES][2] = {{0}}, *p = work, *scratch = work + program->n_r;
    bool met[PIECES] = {0};
    for (int k = 0; k < POINTS; k++) {
        double x[3] = {0, 2.0 * (k % ESP_PIECES_GRID) / (ESP_PIECES_GRID - 1) - 1, 2.0 * (k / ESP_PIECES_GRID) / (ESP_PIECES_GRID - 1) - 1};
        double y, dx[3], slope[2], one = 1;
        int piece;
        double truth = esp_pieces_value(f, x + 1, &piece, slope);
        esp_program_forward(program, x, &y, p, NULL, scratch);
        esp_program_backward(program, p, &one, dx, scratch);
        note(r, signature(p, program->n_r), piece);
        squares += (y - truth) * (y - truth);
        slopes += (dx[1] - slope[0]) * (dx[1] - slope[0]) + (dx[2] - slope[1]) * (dx[2] - slope[1]);
        ret->largest = fmax(ret->largest, fabs(y - truth));
        low = fmin(low, truth);
        high = fmax(high, truth);
        met[piece] = true;
        memcpy(slope_of[piece], slope, sizeof slope);
    }
    ret->rmse = sqrt(squares / POINTS) / (high - low);
    ret->largest /= high - low;
    ret->slopes = sqrt(slopes / POINTS) / largest_step(slope_of, met);
}

esp_code esp_pieces_measure(const esp_pieces *f, const esp_program *program, esp_pieces_distance *ret_distance, esp_error *reterr) {
    esp_pieces_distance distance = {0};
    size_t n_r = (size_t)program->n_r;
    regions r = {.cap = POINTS, .signature = calloc(POINTS, sizeof *r.signature), .count = calloc(POINTS, sizeof *r.count)};
    double *work = calloc(2 * n_r + 2, sizeof *work);
    bool made = r.signature && r.count && work;
    if (made) {
        compare(f, program, &r, work, &distance);
        distance.regions = wrong_share(&r);
        distance.n_regions = (int)r.n;
        *ret_distance = distance;
    }
    free(work);
    free(r.count);
    free(r.signature);
    return made ? ESP_OK : esp_fail(reterr, ESP_NOMEM, "no memory for the regions of %zu ReLUs", n_r);
}
