/* SPDX-License-Identifier: Apache-2.0
 * Ranges over the horizon and the bound they give. */
#include "plan/tighten.h"

#include <float.h>
#include <math.h>

#include "plan/verify.h"

#define FLOPS 5e8 /* of the CROWN kernel, a low figure */

double esp_tighten_seconds(const esp_problem *p) {
    double n = (double)p->horizon * p->step->n_r, x = (double)p->horizon * p->nu;
    return n * n * (n / 3.0 + x) / FLOPS;
}

static bool all_finite(const esp_ranges *ranges) {
    for (int i = 0; i < ranges->n_r; i++)
        if (!isfinite(ranges->p_lower[i]) || !isfinite(ranges->p_upper[i])) return false;
    for (int i = 0; i < ranges->n_y; i++)
        if (!isfinite(ranges->y_lower[i]) || !isfinite(ranges->y_upper[i])) return false;
    return true;
}

esp_code esp_tighten(const esp_problem *p, bool crown, esp_tightened *ret_tightened, esp_error *reterr) {
    esp_tightened t = {0};
    esp_box box = {.n = p->horizon * p->nu, .lower = p->u_lower, .upper = p->u_upper};
    esp_code code = esp_program_unroll(p->step, p->ny, p->nu, p->history, p->horizon, p->y_past, p->u_past, &t.unrolled, reterr);
    if (code == ESP_OK) code = esp_ranges_create(t.unrolled->n_r, t.unrolled->n_y, &t.ranges, reterr);
    if (code == ESP_OK)
        code = crown ? esp_bounds_crown(t.unrolled, &box, NULL, t.ranges, reterr) : esp_bounds_interval(t.unrolled, &box, t.ranges, reterr);
    if (code == ESP_OK && !all_finite(t.ranges)) code = esp_fail(reterr, ESP_NUMERIC, "the ranges over the horizon are not finite");
    if (code == ESP_OK)
        *ret_tightened = t;
    else
        esp_tightened_done(&t);
    return code;
}

void esp_tightened_done(esp_tightened *t) {
    esp_program_free(t->unrolled);
    esp_ranges_free(t->ranges);
    *t = (esp_tightened){0};
}

/* du(t) = u(t) - u(t-1); a little wider than the boxes say, for the rounding of the difference. */
static void du_range(const esp_problem *p, int t, int i, double *ret_lower, double *ret_upper) {
    int k = t * p->nu + i;
    double before_lower = t > 0 ? p->u_lower[k - p->nu] : p->u_last[i], before_upper = t > 0 ? p->u_upper[k - p->nu] : p->u_last[i];
    double lower = p->u_lower[k] - before_upper, upper = p->u_upper[k] - before_lower;
    double slack = 4.0 * DBL_EPSILON * fmax(fabs(lower), fabs(upper));
    *ret_lower = lower - slack;
    *ret_upper = upper + slack;
    if (!esp_problem_rated(p, t)) return;
    double reach =
        p->task->rate[i] + 2.0 * ESP_RATE_TOLERANCE * (1.0 + fmax(fabs(p->task->u_lower[i]), fabs(p->task->u_upper[i])) + fabs(p->u_last[i]));
    *ret_lower = fmax(*ret_lower, -reach);
    *ret_upper = fmin(*ret_upper, reach);
}

void esp_tighten_component(const esp_problem *p, const esp_ranges *ranges, const esp_piece *piece, int k, double *ret_lower, double *ret_upper) {
    int i = piece->index[k];
    if (piece->on == ESP_ON_Y) {
        *ret_lower = ranges->y_lower[piece->t * p->ny + i];
        *ret_upper = ranges->y_upper[piece->t * p->ny + i];
    } else if (piece->on == ESP_ON_U) {
        *ret_lower = p->u_lower[piece->t * p->nu + i];
        *ret_upper = p->u_upper[piece->t * p->nu + i];
    } else {
        du_range(p, piece->t, i, ret_lower, ret_upper);
    }
}

/* Every term is >= 0, so a relative margin of the sum covers the rounding of each of the few operations per term. */
double esp_tighten_bound(const esp_problem *p, const esp_ranges *ranges) {
    double sum = 0.0, operations = 8.0;
    for (int k = 0; k < p->n_pieces; k++) {
        const esp_piece *piece = &p->pieces[k];
        double largest = 0.0;
        for (int c = 0; c < piece->n; c++) {
            double lower, upper, w = piece->weight[c];
            esp_tighten_component(p, ranges, piece, c, &lower, &upper);
            double away = fmax(0.0, fmax(lower - piece->target[c], piece->target[c] - upper));
            if (piece->norm == ESP_COST_L1)
                sum += w * away;
            else if (piece->norm == ESP_COST_L2SQ)
                sum += w * away * away;
            else
                largest = fmax(largest, w * away);
        }
        sum += largest;
        operations += piece->n + 1.0;
    }
    for (int t = 0; t < p->horizon; t++)
        for (int k = 0; k < p->n_softs; k++)
            sum += p->penalty * esp_soft_least(&p->softs[k], ranges->y_lower + t * p->ny, ranges->y_upper + t * p->ny);
    operations += 2.0 * p->horizon * p->n_softs;
    return sum * (1.0 - operations * DBL_EPSILON);
}

static bool inside_avoid(const esp_avoid *avoid, const double *lower, const double *upper) {
    for (int k = 0; k < avoid->n; k++) {
        double scale = 2.0 * ESP_LIMIT_TOLERANCE;
        int i = avoid->index[k];
        if (lower[i] <= avoid->lower[k] + scale * fmax(1.0, fabs(avoid->lower[k]))) return false;
        if (upper[i] >= avoid->upper[k] - scale * fmax(1.0, fabs(avoid->upper[k]))) return false;
    }
    return true;
}

static bool halfspace_missed(const esp_problem *p, const esp_halfspace *h, const double *lower, const double *upper) {
    double least = -h->b, scale = fabs(h->b), size = fabs(h->b);
    for (int i = 0; i < p->ny; i++) {
        double v = h->a[i] > 0.0 ? h->a[i] * lower[i] : h->a[i] * upper[i];
        least += v;
        size += fabs(v);
        scale = fmax(scale, fabs(h->a[i]));
    }
    return least - size * (p->ny + 4) * DBL_EPSILON > 2.0 * ESP_LIMIT_TOLERANCE * scale;
}

bool esp_tighten_refutes(const esp_problem *p, const esp_ranges *ranges) {
    for (int k = 0; k < p->horizon * p->ny; k++) {
        double slack = 2.0 * ESP_LIMIT_TOLERANCE;
        if (ranges->y_lower[k] > p->y_upper[k] + slack * fmax(1.0, fabs(p->y_upper[k]))) return true;
        if (ranges->y_upper[k] < p->y_lower[k] - slack * fmax(1.0, fabs(p->y_lower[k]))) return true;
    }
    for (int t = 0; t < p->horizon; t++) {
        const double *lower = ranges->y_lower + t * p->ny, *upper = ranges->y_upper + t * p->ny;
        for (int k = 0; k < p->n_halfspaces; k++)
            if (halfspace_missed(p, &p->halfspaces[k], lower, upper)) return true;
        for (int k = 0; k < p->n_avoid; k++)
            if (inside_avoid(&p->avoid[k], lower, upper)) return true;
    }
    return false;
}
