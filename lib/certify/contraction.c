/* SPDX-License-Identifier: Apache-2.0
 * One step of two closed loops over a box, entry by entry. Not the recursion over the steps: closed_loop.c.
 *
 * With z = [Y, U-] the present and u = pi(y), the step is  z+ = (Y and U- one older, F(Y, U-, u) and u the newest):
 *
 *     dz+/dz = A + B P     A = dz+/dz at a fixed u,  B = dz+/du,  P = du/dz of the reference policy
 *
 * A and B are the derivative of the dynamics with rows of a shift below and above it. Going from x to x^, both in the box,
 *     z^+ - z+ = [F(z^, pi^(z^)) - F(z^, pi(z^))] + [F(z^, pi(z^)) - F(z, pi(z))]
 * the first bracket is at most |B| |pi^ - pi| at z^, the second at most |A + B P| |z^ - z| along the segment, which stays in
 * the box. Over pieces of the box the entrywise largest of each is taken: a segment passes through several of them. */
#include "certify/contraction.h"

#include <stdlib.h>
#include <string.h>

#include "certify/jacobian.h"
#include "certify/norms.h"
#include "certify/rounding.h"

enum { MATRICES = 12 };

struct esp_contractor {
    esp_loop_models models;
    esp_loop *loop;
    esp_jacobian *dynamics, *policy;
    esp_contraction out;
    int n, nu, ny, history, n_x;
    /* all with room for n_x x n_x */
    double *f_lo, *f_hi, *p_lo, *p_hi, *a_lo, *a_hi, *b_lo, *b_hi, *c_lo, *c_hi, *a_size, *b_size;
    double *p_size; /* nu x n, within the room of the same size */
    double *lower, *upper; /* n_x: a piece with its inputs */
    double *eps; /* nu: |pi^ - pi| */
    double *memory;
};

esp_code esp_contractor_create(const esp_loop_models *models, esp_contractor **ret_contractor, esp_error *reterr) {
    const esp_model *m = models->dynamics_f;
    esp_contractor *c = calloc(1, sizeof *c);
    if (!c) return esp_fail(reterr, ESP_NOMEM, "no memory for the step of a loop");
    c->models = *models;
    c->n = esp_loop_present(models);
    c->nu = m->nu;
    c->ny = m->ny;
    c->history = m->history;
    c->n_x = esp_model_n_x(m);
    esp_code code = esp_loop_create(models, 1, &c->loop, reterr);
    if (!code) code = esp_jacobian_create(m, &c->dynamics, reterr);
    if (!code) code = esp_jacobian_create(models->policy_g, &c->policy, reterr);
    size_t each = (size_t)c->n_x * (size_t)c->n_x, n_x = (size_t)c->n_x;
    if (!code && !(c->memory = calloc((MATRICES + 2) * each + 6 * n_x, sizeof *c->memory)))
        code = esp_fail(reterr, ESP_NOMEM, "no memory for a step");
    if (code) {
        esp_contractor_free(c);
        return code;
    }
    double *at = c->memory;
    double **matrices[] = {&c->f_lo, &c->f_hi, &c->p_lo, &c->p_hi,   &c->a_lo,   &c->a_hi,   &c->b_lo,
                           &c->b_hi, &c->c_lo, &c->c_hi, &c->a_size, &c->b_size, &c->p_size, &c->out.stretch};
    for (size_t k = 0; k < sizeof matrices / sizeof *matrices; k++, at += each) *matrices[k] = at;
    double **vectors[] = {&c->lower, &c->upper, &c->eps, &c->out.push, &c->out.image_lower, &c->out.image_upper};
    for (size_t k = 0; k < sizeof vectors / sizeof *vectors; k++, at += n_x) *vectors[k] = at;
    c->out.n = c->n;
    c->out.nu = c->nu;
    *ret_contractor = c;
    return ESP_OK;
}

void esp_contractor_free(esp_contractor *contractor) {
    if (!contractor) return;
    esp_loop_free(contractor->loop);
    esp_jacobian_free(contractor->dynamics);
    esp_jacobian_free(contractor->policy);
    free(contractor->memory);
    free(contractor);
}

/* ---- one piece ---------------------------------------------------------------------------------------------------- */

static void grow(double *size, double lower, double upper) {
    *size = esp_max(*size, esp_interval_size(lower, upper));
}

static void widen(const esp_contractor *c, int i, double lower, double upper) {
    c->out.image_lower[i] = esp_min(c->out.image_lower[i], lower);
    c->out.image_upper[i] = esp_max(c->out.image_upper[i], upper);
}

/* The step from the piece: its inputs into lower and upper behind [Y, U-], eps and the image. */
static void step_piece(esp_contractor *c) {
    int n_y = c->history * c->ny, n_u = c->n - n_y;
    esp_loop_begin(c->loop, c->lower, c->upper);
    esp_loop_step(c->loop);
    for (int i = 0; i < n_y - c->ny; i++) widen(c, i, c->lower[i + c->ny], c->upper[i + c->ny]);
    for (int i = 0; i < n_u - c->nu; i++) widen(c, n_y + i, c->lower[n_y + i + c->nu], c->upper[n_y + i + c->nu]);
    for (int i = 0; i < c->ny; i++) {
        esp_spans y = esp_loop_output(c->loop, i);
        widen(c, n_y - c->ny + i, esp_min(y.f.lower, y.g.lower), esp_max(y.f.upper, y.g.upper));
    }
    for (int i = 0; i < c->nu; i++) {
        esp_spans u = esp_loop_input(c->loop, i);
        double lower = esp_min(u.f.lower, u.g.lower), upper = esp_max(u.f.upper, u.g.upper);
        c->lower[c->n + i] = lower;
        c->upper[c->n + i] = upper;
        grow(&c->eps[i], u.d.lower, u.d.upper);
        if (n_u) widen(c, c->n - c->nu + i, lower, upper);
    }
}

/* A (n x n), B (n x nu) of the extended step from the derivative of the dynamics (ny x n_x). */
static void extend(const esp_contractor *c, const double *f, double *a, double *b) {
    size_t n = (size_t)c->n, nu = (size_t)c->nu, ny = (size_t)c->ny, n_y = (size_t)c->history * ny;
    memset(a, 0, n * n * sizeof *a);
    memset(b, 0, n * nu * sizeof *b);
    for (size_t i = 0; i + ny < n_y; i++) a[i * n + i + ny] = 1;
    for (size_t i = 0; i + n_y + nu < n; i++) a[(n_y + i) * n + n_y + i + nu] = 1;
    for (size_t i = 0; i < ny; i++) {
        memcpy(a + (n_y - ny + i) * n, f + i * (n + nu), n * sizeof *a);
        memcpy(b + (n_y - ny + i) * nu, f + i * (n + nu) + n, nu * sizeof *b);
    }
    for (size_t i = 0; n > n_y && i < nu; i++) b[(n - nu + i) * nu + i] = 1;
}

/* c = a + b p entry by entry; b (n x nu) and p (nu x n) both intervals, by the four products of their ends. */
static void close_loop(const esp_contractor *c) {
    int n = c->n, nu = c->nu;
    for (int i = 0; i < n; i++)
        for (int k = 0; k < n; k++) {
            double lo = c->a_lo[i * n + k], hi = c->a_hi[i * n + k], magnitude = esp_interval_size(lo, hi);
            for (int j = 0; j < nu; j++) {
                double bl = c->b_lo[i * nu + j], bu = c->b_hi[i * nu + j], pl = c->p_lo[j * n + k], pu = c->p_hi[j * n + k];
                if ((bl == 0 && bu == 0) || (pl == 0 && pu == 0)) continue;
                lo += esp_min(esp_min(bl * pl, bl * pu), esp_min(bu * pl, bu * pu));
                hi += esp_max(esp_max(bl * pl, bl * pu), esp_max(bu * pl, bu * pu));
                magnitude += esp_interval_size(bl, bu) * esp_interval_size(pl, pu);
            }
            double error = esp_gamma((size_t)nu + 4) * magnitude + (magnitude > 0 ? (double)nu * ESP_TINY : 0);
            bool known = magnitude <= DBL_MAX;
            c->c_lo[i * n + k] = known ? lo - error : -HUGE_VAL;
            c->c_hi[i * n + k] = known ? hi + error : HUGE_VAL;
        }
}

static void open_sizes(const esp_contractor *c) {
    size_t n = (size_t)c->n, nu = (size_t)c->nu;
    for (size_t k = 0; k < n * n; k++) c->out.stretch[k] = c->a_size[k] = HUGE_VAL;
    for (size_t k = 0; k < n * nu; k++) c->b_size[k] = c->p_size[k] = HUGE_VAL;
    for (size_t k = 0; k < nu; k++) c->eps[k] = HUGE_VAL;
    for (size_t k = 0; k < n; k++) {
        c->out.image_lower[k] = -HUGE_VAL;
        c->out.image_upper[k] = HUGE_VAL;
    }
}

static bool is_finite_piece(const esp_contractor *c) {
    for (int i = 0; i < c->n_x; i++)
        if (!isfinite(c->lower[i]) || !isfinite(c->upper[i])) return false;
    return true;
}

static void derive_piece(esp_contractor *c) {
    int n = c->n, nu = c->nu, first = (c->history - 1) * c->ny;
    esp_jacobian_run(c->dynamics, c->lower, c->upper, c->f_lo, c->f_hi);
    extend(c, c->f_lo, c->a_lo, c->b_lo);
    extend(c, c->f_hi, c->a_hi, c->b_hi);
    esp_jacobian_run(c->policy, c->lower + first, c->upper + first, c->f_lo, c->f_hi);
    memset(c->p_lo, 0, (size_t)nu * (size_t)n * sizeof *c->p_lo);
    memset(c->p_hi, 0, (size_t)nu * (size_t)n * sizeof *c->p_hi);
    for (int i = 0; i < nu; i++) {
        memcpy(c->p_lo + i * n + first, c->f_lo + i * c->ny, (size_t)c->ny * sizeof *c->p_lo);
        memcpy(c->p_hi + i * n + first, c->f_hi + i * c->ny, (size_t)c->ny * sizeof *c->p_hi);
    }
    close_loop(c);
    for (int k = 0; k < n * n; k++) {
        grow(&c->out.stretch[k], c->c_lo[k], c->c_hi[k]);
        grow(&c->a_size[k], c->a_lo[k], c->a_hi[k]);
    }
    for (int k = 0; k < n * nu; k++) {
        grow(&c->b_size[k], c->b_lo[k], c->b_hi[k]);
        grow(&c->p_size[k], c->p_lo[k], c->p_hi[k]);
    }
}

/* ---- the box ------------------------------------------------------------------------------------------------------ */

esp_code esp_size_norm(int m, int n, const double *size, esp_norm norm, double *ret_norm, esp_error *reterr) {
    double largest = 0;
    bool finite = true;
    for (int i = 0; i < m; i++) {
        double sum = 0;
        for (int k = 0; k < n; k++) sum = esp_add_up(sum, size[(size_t)i * (size_t)n + (size_t)k]);
        largest = esp_max(largest, sum);
    }
    finite = largest <= DBL_MAX;
    if (!finite) largest = HUGE_VAL;
    *ret_norm = largest;
    /* |M|_2 <= | |M| |_2, which grows with every entry. */
    return norm == ESP_NORM_2 && finite && m && n ? esp_norm_upper((size_t)m, (size_t)n, size, ret_norm, reterr) : ESP_OK;
}

static esp_code take_norms(esp_contractor *c, esp_norm norm, esp_error *reterr) {
    double stretch = 0, of_x = 0, of_u = 0, of_policy = 0, eps = 0;
    esp_code code = esp_size_norm(c->n, c->n, c->out.stretch, norm, &stretch, reterr);
    if (!code) code = esp_size_norm(c->n, c->n, c->a_size, norm, &of_x, reterr);
    if (!code) code = esp_size_norm(c->n, c->nu, c->b_size, norm, &of_u, reterr);
    if (!code) code = esp_size_norm(c->nu, c->n, c->p_size, norm, &of_policy, reterr);
    if (code) return code;
    for (int j = 0; j < c->nu; j++) eps = esp_max(eps, c->eps[j]);
    c->out.epsilon = norm == ESP_NORM_INF ? eps : esp_norm2_up((size_t)c->nu, c->eps);
    c->out.gain = of_u;
    c->out.rho = esp_min(stretch, esp_add_up(of_x, esp_mul_up(of_u, of_policy)));
    for (int i = 0; i < c->n; i++) {
        double sum = 0;
        for (int j = 0; j < c->nu; j++) sum = esp_add_up(sum, esp_mul_up(c->b_size[i * c->nu + j], c->eps[j]));
        c->out.push[i] = sum;
    }
    return ESP_OK;
}

/* Into how many parts each side is cut: doubled in turn until `pieces` would be passed. */
static void choose_parts(const esp_contractor *c, const double *lower, const double *upper, int pieces, int *parts) {
    int total = 1;
    for (int i = 0; i < c->n; i++) parts[i] = 1;
    for (bool more = true; more && 2 * total <= pieces;) {
        more = false;
        for (int i = 0; i < c->n && 2 * total <= pieces; i++) {
            if (!(upper[i] > lower[i])) continue;
            parts[i] *= 2;
            total *= 2;
            more = true;
        }
    }
}

/* End k of `parts` on the side, the same number from both sides of it. */
static double cut(double lower, double upper, int k, int parts) {
    double t = (double)k / (double)parts;
    return k == 0 ? lower : k == parts ? upper : esp_min(esp_max((1 - t) * lower + t * upper, lower), upper);
}

static void run_pieces(esp_contractor *c, const double *lower, const double *upper, const int *parts, int *at, const esp_stop *stop) {
    int carry = 0;
    memset(at, 0, (size_t)c->n * sizeof *at);
    while (carry < c->n) {
        for (int i = 0; i < c->n; i++) {
            c->lower[i] = cut(lower[i], upper[i], at[i], parts[i]);
            c->upper[i] = cut(lower[i], upper[i], at[i] + 1, parts[i]);
        }
        step_piece(c);
        if (esp_stop_now(stop) || !is_finite_piece(c)) {
            open_sizes(c);
            return;
        }
        derive_piece(c);
        for (carry = 0; carry < c->n && ++at[carry] == parts[carry]; carry++) at[carry] = 0;
    }
}

esp_code esp_contractor_run(esp_contractor *c, const double *lower, const double *upper, int pieces, esp_norm norm, const esp_stop *stop,
                            const esp_contraction **ret_contraction, esp_error *reterr) {
    size_t n = (size_t)c->n, nu = (size_t)c->nu;
    int *parts = calloc(2 * n, sizeof *parts);
    if (!parts) return esp_fail(reterr, ESP_NOMEM, "no memory to cut a box");
    memset(c->out.stretch, 0, n * n * sizeof(double));
    memset(c->a_size, 0, n * n * sizeof(double));
    memset(c->b_size, 0, n * nu * sizeof(double));
    memset(c->p_size, 0, n * nu * sizeof(double));
    memset(c->eps, 0, nu * sizeof(double));
    for (size_t i = 0; i < n; i++) {
        c->out.image_lower[i] = HUGE_VAL;
        c->out.image_upper[i] = -HUGE_VAL;
    }
    choose_parts(c, lower, upper, pieces, parts);
    run_pieces(c, lower, upper, parts, parts + n, stop);
    free(parts);
    esp_code code = take_norms(c, norm, reterr);
    if (!code) *ret_contraction = &c->out;
    return code;
}
