/* SPDX-License-Identifier: Apache-2.0
 * Sorting the limits on y into those that hold and those that cost. */
#include "plan/limits.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "plan/verify.h"

#define PENALTY_FACTOR 10.0

void esp_limit_pointer(esp_limit limit, char text[ESP_LIMIT_TEXT]) {
    static const char *const formats[] = {"/state/lower/%d",        "/state/upper/%d",        "/state/halfspaces/%d", "/state/avoid/%d",
                                          "/trust_region/lower/%d", "/trust_region/upper/%d", "/trust_region"};
    const char *format = formats[limit.kind], *number = strstr(format, "%d");
    if (number)
        (void)snprintf(text, ESP_LIMIT_TEXT, "%.*s%d", (int)(number - format), format, limit.index);
    else
        (void)snprintf(text, ESP_LIMIT_TEXT, "%s", format);
}

/* ---- a soft limit ------------------------------------------------------------------------------------------------ */

static double side_value(const esp_side *side, const double *y) {
    double sum = -side->b;
    for (int k = 0; k < side->n; k++) sum += side->a[k] * y[side->index[k]];
    return sum;
}

const esp_side *esp_soft_nearest(const esp_soft *soft, const double *y, double *ret_value) {
    const esp_side *nearest = &soft->sides[0];
    double least = side_value(nearest, y);
    for (int k = 1; k < soft->n_sides; k++) {
        double value = side_value(&soft->sides[k], y);
        if (!(value < least)) continue;
        least = value;
        nearest = &soft->sides[k];
    }
    *ret_value = least;
    return nearest;
}

double esp_soft_excess(const esp_soft *soft, const double *y) {
    double value;
    (void)esp_soft_nearest(soft, y, &value);
    return value > 0.0 ? value : 0.0;
}

/* The largest (sign 1), or minus the smallest (sign -1), value of a side over a box: rounded up. */
static double side_extreme(const esp_side *side, double sign, const double *lower, const double *upper) {
    double sum = -sign * side->b, size = fabs(side->b);
    for (int k = 0; k < side->n; k++) {
        double a = sign * side->a[k], v = a * (a > 0.0 ? upper : lower)[side->index[k]];
        sum += v;
        size += fabs(v);
    }
    return sum + (size * (side->n + 4) * DBL_EPSILON + (side->n + 1) * DBL_MIN);
}

double esp_soft_least(const esp_soft *soft, const double *lower, const double *upper) {
    double least = INFINITY;
    for (int k = 0; k < soft->n_sides; k++) least = fmin(least, -side_extreme(&soft->sides[k], -1.0, lower, upper));
    return fmax(0.0, least);
}

/* The least of the sides is nowhere above any one of them. */
double esp_soft_most(const esp_soft *soft, const double *lower, const double *upper) {
    double most = INFINITY;
    for (int k = 0; k < soft->n_sides; k++) most = fmin(most, side_extreme(&soft->sides[k], 1.0, lower, upper));
    return fmax(0.0, most);
}

/* ---- sorting ----------------------------------------------------------------------------------------------------- */

/* Adds a soft limit of n_sides sides of `n` components each; NULL when memory is out. */
static esp_soft *add_soft(esp_problem *p, esp_limit_kind kind, int index, int n_sides, int n) {
    esp_soft *soft = &p->softs[p->n_softs];
    *soft = (esp_soft){.limit = {kind, index}, .n_sides = n_sides, .sides = ESP_NEW(p->arena, esp_side, n_sides)};
    for (int k = 0; soft->sides && k < n_sides; k++) {
        soft->sides[k] = (esp_side){.n = n, .index = ESP_NEW(p->arena, int, n), .a = ESP_NEW(p->arena, double, n)};
        if (!soft->sides[k].index || !soft->sides[k].a) return NULL;
    }
    if (!soft->sides) return NULL;
    p->n_softs++;
    return soft;
}

/* sign * y_i <= sign * limit. */
static void set_side(esp_side *side, int i, double sign, double limit) {
    side->index[0] = i;
    side->a[0] = sign;
    side->b = sign * limit;
}

/* One side of a box: sign 1 upper, -1 lower. False when memory is out. */
static bool take_side(esp_problem *p, const double *present, esp_limit_kind kind, int i, double sign, double limit) {
    if (!isfinite(limit)) return true;
    if (sign * (present[i] - limit) > ESP_LIMIT_TOLERANCE * fmax(1.0, fabs(limit))) {
        esp_soft *soft = add_soft(p, kind, i, 1, 1);
        if (soft) set_side(&soft->sides[0], i, sign, limit);
        return soft != NULL;
    }
    for (int t = 0; t < p->horizon; t++) {
        double *side = (sign > 0.0 ? p->y_upper : p->y_lower) + t * p->ny + i;
        *side = sign > 0.0 ? fmin(*side, limit) : fmax(*side, limit);
    }
    return true;
}

static bool take_boxes(esp_problem *p, const double *present, const double *data_lower, const double *data_upper) {
    const esp_task *task = p->task;
    bool ok = true;
    for (int i = 0; ok && i < p->ny; i++) {
        if (task->y_lower)
            ok =
                take_side(p, present, ESP_LIMIT_LOWER, i, -1.0, task->y_lower[i]) && take_side(p, present, ESP_LIMIT_UPPER, i, 1.0, task->y_upper[i]);
        if (ok && task->trust_lower)
            ok = take_side(p, present, ESP_LIMIT_TRUST_LOWER, i, -1.0, task->trust_lower[i]) &&
                 take_side(p, present, ESP_LIMIT_TRUST_UPPER, i, 1.0, task->trust_upper[i]);
        if (!ok || task->trust != ESP_TRUST_DATA) continue;
        double margin = task->trust_margin * (data_upper[i] - data_lower[i]);
        ok = take_side(p, present, ESP_LIMIT_DATA, i, -1.0, data_lower[i] - margin) &&
             take_side(p, present, ESP_LIMIT_DATA, i, 1.0, data_upper[i] + margin);
    }
    return ok;
}

static bool take_halfspace(esp_problem *p, const double *present, int k) {
    const esp_halfspace *h = &p->task->halfspaces[k];
    double length = 0.0;
    for (int i = 0; i < p->ny; i++) length = hypot(length, h->a[i]);
    if (!(length > 0.0) || !(esp_verify_halfspace(h, p->ny, present) > ESP_LIMIT_TOLERANCE)) {
        p->halfspaces[p->n_halfspaces++] = *h;
        return true;
    }
    esp_soft *soft = add_soft(p, ESP_LIMIT_HALFSPACE, k, 1, p->ny);
    if (!soft) return false;
    soft->sides[0].b = h->b / length;
    for (int i = 0; i < p->ny; i++) {
        soft->sides[0].index[i] = i;
        soft->sides[0].a[i] = h->a[i] / length;
    }
    return true;
}

/* Inside the box every face is a limit violated; the nearest one is the way out. */
static bool take_avoid(esp_problem *p, const double *present, int k) {
    const esp_avoid *avoid = &p->task->avoid[k];
    if (!(esp_verify_avoid(avoid, present) > ESP_LIMIT_TOLERANCE)) {
        p->avoid[p->n_avoid++] = *avoid;
        return true;
    }
    esp_soft *soft = add_soft(p, ESP_LIMIT_AVOID, k, 2 * avoid->n, 1);
    for (int c = 0; soft && c < avoid->n; c++) {
        set_side(&soft->sides[2 * c], avoid->index[c], 1.0, avoid->lower[c]);
        set_side(&soft->sides[2 * c + 1], avoid->index[c], -1.0, avoid->upper[c]);
    }
    return soft != NULL;
}

/* ---- the penalty ------------------------------------------------------------------------------------------------- */

static double slope(const esp_problem *p, const esp_piece *piece, int k, const double *present) {
    int i = piece->index[k];
    double w = piece->weight[k], target = piece->target[k], away = 0.0;
    if (piece->norm != ESP_COST_L2SQ) return w;
    if (piece->on == ESP_ON_Y)
        away = fabs(present[i] - target);
    else if (piece->on == ESP_ON_U)
        away = fmax(fabs(p->task->u_lower[i] - target), fabs(p->task->u_upper[i] - target));
    else
        away = p->task->u_upper[i] - p->task->u_lower[i] + fabs(target);
    return 2.0 * w * fmax(1.0, away);
}

static double default_penalty(const esp_problem *p, const double *present) {
    double sum = 0.0;
    for (int c = 0; c < p->n_pieces; c++)
        for (int k = 0; k < p->pieces[c].n; k++) sum += slope(p, &p->pieces[c], k, present);
    return sum > 0.0 ? PENALTY_FACTOR * sum : 1.0;
}

static bool take_memory(esp_problem *p) {
    const esp_task *task = p->task;
    p->halfspaces = ESP_NEW(p->arena, esp_halfspace, task->n_halfspaces + 1);
    p->avoid = ESP_NEW(p->arena, esp_avoid, task->n_avoid + 1);
    p->softs = ESP_NEW(p->arena, esp_soft, 6 * p->ny + task->n_halfspaces + task->n_avoid);
    return p->halfspaces && p->avoid && p->softs;
}

esp_code esp_limits_take(esp_problem *p, const double *data_lower, const double *data_upper, esp_error *reterr) {
    const esp_task *task = p->task;
    const double *present = p->y_past + (p->history - 1) * p->ny;
    if (task->trust == ESP_TRUST_DATA && (!data_lower || !data_upper))
        return esp_fail_at(reterr, ESP_UNPROCESSABLE, "/trust_region/kind", "the ranges of the data this model was trained on are not known");
    bool ok = take_memory(p);
    p->ranges_sound = task->trust != ESP_TRUST_DATA;
    for (int k = 0; k < p->horizon * p->ny; k++) {
        p->y_lower[k] = -INFINITY;
        p->y_upper[k] = INFINITY;
    }
    ok = ok && take_boxes(p, present, data_lower, data_upper);
    for (int k = 0; ok && k < task->n_halfspaces; k++) ok = take_halfspace(p, present, k);
    for (int k = 0; ok && k < task->n_avoid; k++) ok = take_avoid(p, present, k);
    if (!ok) return esp_fail(reterr, ESP_NOMEM, "the limits of a planning problem");
    if (p->n_softs > 0) p->penalty = task->penalty > 0.0 ? task->penalty : default_penalty(p, present);
    return ESP_OK;
}
