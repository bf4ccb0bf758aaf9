/* SPDX-License-Identifier: Apache-2.0
 * Projected Adam (Kingma and Ba, 2015) on the inputs, by back-propagation through time. */
#include "plan/gradient.h"

#include <math.h>
#include <string.h>

#include "base/rng.h"

const esp_gradient_options esp_gradient_defaults = {.iterations = 200, .starts = 6, .rate = 0.05, .seconds = INFINITY};

#define BETA1   0.9
#define BETA2   0.99
#define PENALTY 2.0 /* length of the penalties' gradient, in lengths of the cost's */

typedef struct descent {
    const esp_problem *p;
    double *latent, *inputs; /* H x nu: before and after projection */
    double *predicted; /* H x ny */
    double *pre; /* H x n_r: pre-activations */
    double *du, *dy; /* H x nu, H x ny: gradient of the cost */
    double *outward; /* H x nu: gradient of the penalties */
    double *dx, *work; /* n_x, n_r */
    double *m, *v; /* Adam's moments, H x nu */
} descent;

static bool take(descent *d, esp_arena *arena) {
    const esp_problem *p = d->p;
    size_t hu = (size_t)(p->horizon * p->nu), hy = (size_t)(p->horizon * p->ny), hr = (size_t)p->horizon * (size_t)p->step->n_r;
    d->latent = ESP_NEW(arena, double, hu);
    d->inputs = ESP_NEW(arena, double, hu);
    d->predicted = ESP_NEW(arena, double, hy);
    d->pre = ESP_NEW(arena, double, hr + 1);
    d->du = ESP_NEW(arena, double, hu);
    d->dy = ESP_NEW(arena, double, hy);
    d->outward = ESP_NEW(arena, double, hu);
    d->dx = ESP_NEW(arena, double, p->step->n_x);
    d->work = ESP_NEW(arena, double, p->step->n_r + 1);
    d->m = ESP_NEW(arena, double, hu);
    d->v = ESP_NEW(arena, double, hu);
    return d->latent && d->inputs && d->predicted && d->pre && d->du && d->dy && d->outward && d->dx && d->work && d->m && d->v;
}

static void replay(descent *d) {
    const esp_problem *p = d->p;
    for (int t = 0; t < p->horizon; t++) {
        esp_problem_window(p, t, d->inputs, d->predicted, p->x);
        esp_program_forward(p->step, p->x, d->predicted + t * p->ny, d->pre + (size_t)t * (size_t)p->step->n_r, p->r, d->work);
    }
}

/* Adds g to the gradient in component i of what the piece is on. */
static void add(descent *d, const esp_piece *piece, int i, double g) {
    int nu = d->p->nu;
    if (piece->on == ESP_ON_Y) {
        d->dy[piece->t * d->p->ny + i] += g;
        return;
    }
    d->du[piece->t * nu + i] += g;
    if (piece->on == ESP_ON_DU && piece->t > 0) d->du[(piece->t - 1) * nu + i] -= g;
}

static double value_of(const descent *d, const esp_piece *piece, int i) {
    const esp_problem *p = d->p;
    if (piece->on == ESP_ON_Y) return d->predicted[piece->t * p->ny + i];
    double u = d->inputs[piece->t * p->nu + i];
    return piece->on == ESP_ON_U ? u : u - esp_problem_previous(p, d->inputs, piece->t)[i];
}

static double sign(double v) {
    return (double)((v > 0.0) - (v < 0.0));
}

/* A subgradient of one piece. */
static void piece_gradient(descent *d, const esp_piece *piece) {
    int largest = 0;
    double most = -1.0, most_side = 0.0;
    for (int k = 0; k < piece->n; k++) {
        double e = value_of(d, piece, piece->index[k]) - piece->target[k], w = piece->weight[k];
        if (piece->norm == ESP_COST_L1)
            add(d, piece, piece->index[k], w * sign(e));
        else if (piece->norm == ESP_COST_L2SQ)
            add(d, piece, piece->index[k], 2.0 * w * e);
        else if (w * fabs(e) > most) {
            most = w * fabs(e);
            most_side = w * sign(e);
            largest = k;
        }
    }
    if (piece->norm == ESP_COST_LINF) add(d, piece, piece->index[largest], most_side);
}

/* Where a limit that the present violates is still violated: the penalty's slope towards the nearest way back. */
static void soft_gradient(descent *d, const esp_soft *soft, int t) {
    double value, *dy = d->dy + t * d->p->ny;
    const esp_side *side = esp_soft_nearest(soft, d->predicted + t * d->p->ny, &value);
    for (int k = 0; value > 0.0 && k < side->n; k++) dy[side->index[k]] += d->p->penalty * side->a[k];
}

/* A box to avoid is left through its nearest face. */
static bool avoid_gradient(const esp_avoid *avoid, const double *y, double *dy) {
    double depth = INFINITY, side = 0.0;
    int at = 0;
    for (int k = 0; k < avoid->n; k++) {
        double below = y[avoid->index[k]] - avoid->lower[k], above = avoid->upper[k] - y[avoid->index[k]];
        if (below < depth) {
            depth = below;
            side = 1.0;
            at = avoid->index[k];
        }
        if (above < depth) {
            depth = above;
            side = -1.0;
            at = avoid->index[k];
        }
    }
    if (!(depth > 0.0)) return false;
    dy[at] += side;
    return true;
}

/* Penalties of slope 1 outside the limits; false when the plan is inside all. */
static bool limits_gradient(descent *d) {
    const esp_problem *p = d->p;
    bool outside = false;
    for (int t = 0; t < p->horizon; t++) {
        double *y = d->predicted + t * p->ny, *dy = d->dy + t * p->ny;
        for (int i = 0; i < p->ny; i++) {
            int side = (y[i] > p->y_upper[t * p->ny + i]) - (y[i] < p->y_lower[t * p->ny + i]);
            dy[i] += side;
            outside = outside || side != 0;
        }
        for (int k = 0; k < p->n_halfspaces; k++) {
            const esp_halfspace *h = &p->halfspaces[k];
            double sum = -h->b;
            for (int i = 0; i < p->ny; i++) sum += h->a[i] * y[i];
            for (int i = 0; sum > 0.0 && i < p->ny; i++) dy[i] += h->a[i];
            outside = outside || sum > 0.0;
        }
        for (int k = 0; k < p->n_avoid; k++) outside = avoid_gradient(&p->avoid[k], y, dy) || outside;
    }
    return outside;
}

/* dy of step t goes back through the step into the window: earlier outputs (dy) and inputs (du). */
static void back(descent *d) {
    const esp_problem *p = d->p;
    for (int t = p->horizon - 1; t >= 0; t--) {
        esp_program_backward(p->step, d->pre + (size_t)t * (size_t)p->step->n_r, d->dy + t * p->ny, d->dx, d->work);
        const double *dx = d->dx;
        for (int s = 0; s < p->history; s++, dx += p->ny) {
            int at = esp_window_y(p, t, s);
            for (int i = 0; at >= 0 && i < p->ny; i++) d->dy[at * p->ny + i] += dx[i];
        }
        for (int s = 0; s < p->history; s++, dx += p->nu) {
            int at = esp_window_u(p, t, s);
            for (int i = 0; at >= 0 && i < p->nu; i++) d->du[at * p->nu + i] += dx[i];
        }
    }
}

static void clear(descent *d) {
    memset(d->du, 0, (size_t)(d->p->horizon * d->p->nu) * sizeof *d->du);
    memset(d->dy, 0, (size_t)(d->p->horizon * d->p->ny) * sizeof *d->dy);
}

static double length(const double *v, int n) {
    double sum = 0.0;
    for (int k = 0; k < n; k++) sum += v[k] * v[k];
    return sqrt(sum);
}

/* Of cost and penalties. Adam divides by the size of what it has seen, so a penalty that dwarfs the cost would freeze
 * it for many iterations; outside the limits the penalties pull with twice the cost's strength, whatever its scale. */
static void gradient(descent *d) {
    const esp_problem *p = d->p;
    int hu = p->horizon * p->nu;
    clear(d);
    bool outside = limits_gradient(d);
    if (outside) back(d);
    memcpy(d->outward, d->du, (size_t)hu * sizeof *d->du);
    clear(d);
    for (int k = 0; k < p->n_pieces; k++) piece_gradient(d, &p->pieces[k]);
    for (int t = 0; t < p->horizon; t++)
        for (int k = 0; k < p->n_softs; k++) soft_gradient(d, &p->softs[k], t);
    back(d);
    if (!outside) return;
    double cost = length(d->du, hu), pull = length(d->outward, hu);
    double scale = pull > 0.0 ? PENALTY * (cost > 0.0 ? cost : 1.0) / pull : 0.0;
    for (int k = 0; k < hu; k++) d->du[k] += scale * d->outward[k];
}

/* Steps are in units of the box's width. Without a finite set the latent plan is the projected one. */
static void adam_step(descent *d, int iteration, double rate) {
    const esp_problem *p = d->p;
    double fix1 = 1.0 - pow(BETA1, iteration + 1), fix2 = 1.0 - pow(BETA2, iteration + 1);
    for (int k = 0; k < p->horizon * p->nu; k++) {
        double width = p->u_upper[k] - p->u_lower[k], g = d->du[k] * width;
        if (!isfinite(g)) g = 0.0;
        d->m[k] = BETA1 * d->m[k] + (1.0 - BETA1) * g;
        d->v[k] = BETA2 * d->v[k] + (1.0 - BETA2) * g * g;
        double base = p->task->values ? d->latent[k] : d->inputs[k];
        double next = base - rate * width * (d->m[k] / fix1) / (sqrt(d->v[k] / fix2) + 1e-12);
        d->latent[k] = fmin(fmax(next, p->u_lower[k]), p->u_upper[k]);
    }
}

static void start_plan(descent *d, const esp_track *track, int start, esp_rng *rng) {
    const esp_problem *p = d->p;
    for (int k = 0; k < p->horizon * p->nu; k++) {
        if (start == 0 && track->found)
            d->latent[k] = track->best.inputs[k];
        else if (start <= 1)
            d->latent[k] = p->task->safe ? p->task->safe[k % p->nu] : fmin(fmax(0.0, p->u_lower[k]), p->u_upper[k]);
        else
            d->latent[k] = esp_rng_range(rng, p->u_lower[k], p->u_upper[k]);
    }
    memset(d->m, 0, (size_t)(p->horizon * p->nu) * sizeof *d->m);
    memset(d->v, 0, (size_t)(p->horizon * p->nu) * sizeof *d->v);
}

static void iterate(descent *d, esp_track *track, const esp_gradient_options *options, int iteration) {
    const esp_problem *p = d->p;
    memcpy(d->inputs, d->latent, (size_t)(p->horizon * p->nu) * sizeof *d->inputs);
    esp_problem_project(p, d->inputs);
    replay(d);
    double objective = esp_verify_objective(p, d->inputs, d->predicted);
    if (!track->found || objective < track->best.objective) (void)esp_track_offer(track, d->inputs, "gradient");
    gradient(d);
    double share = (double)iteration / options->iterations;
    adam_step(d, iteration, options->rate * pow(0.01, share));
}

esp_code esp_gradient_run(esp_track *track, const esp_gradient_options *options, esp_error *reterr) {
    descent d = {.p = track->problem};
    if (d.p->empty) return ESP_OK;
    esp_arena *arena = esp_arena_create(0);
    if (!arena || !take(&d, arena)) {
        esp_arena_free(arena);
        return esp_fail(reterr, ESP_NOMEM, "a gradient search");
    }
    int64_t started = esp_clock_now_ns();
    for (int start = 0; start < options->starts; start++) {
        esp_rng rng;
        esp_rng_init(&rng, options->seed, 1000 + (uint64_t)start);
        start_plan(&d, track, start, &rng);
        for (int iteration = 0; iteration < options->iterations; iteration++) {
            if (esp_track_stop(track) || esp_track_met(track) || esp_clock_seconds_since(started) >= options->seconds) goto out;
            iterate(&d, track, options, iteration);
        }
    }
out:
    esp_arena_free(arena);
    return ESP_OK;
}
