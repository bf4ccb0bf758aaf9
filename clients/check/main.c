/* SPDX-License-Identifier: Apache-2.0
 * espalier-check: is a stored certificate true? Exit status 0: proved again. 1: it is not, or not within the limits. 2: it
 * cannot be checked.
 *
 * The record's tree says into which boxes the prover cut the domain. Each leaf is proved by this program's own means, cut
 * further where they do not reach; a leaf that is left over is named. Leaves are taken as the tree's order has them, so a
 * tree that was tampered with no longer covers the domain, or does not read as one. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check/check.h"

enum { MODELS_MAX = 16, DEPTH_MAX = 400, PATH_ROOM = 4096 };

typedef struct search {
    chk_prover *prover;
    int n; /* numbers of the box */
    const char *tree;
    int leaf, leaves; /* taken so far */
    chk_limits limits;
    double worst; /* of the leaf that failed */
    const char *stopped; /* why a leaf was given up */
} search;

/* The box itself, or its two halves and so on. */
static bool prove_box(search *s, double *lower, double *upper, int depth) {
    int axis = -1;
    s->stopped = chk_limits_over(&s->limits);
    if (s->stopped) return false;
    double ratio = chk_prove(s->prover, lower, upper, &axis);
    if (ratio <= 1) return true;
    s->worst = ratio;
    if (axis < 0 || depth >= DEPTH_MAX) return false;
    double low = lower[axis], high = upper[axis], middle = chk_middle(low, high);
    upper[axis] = middle;
    bool proved = prove_box(s, lower, upper, depth + 1);
    upper[axis] = high;
    lower[axis] = middle;
    proved = proved && prove_box(s, lower, upper, depth + 1);
    lower[axis] = low;
    return proved;
}

typedef enum outcome { PROVED, NOT_PROVED, NO_TREE } outcome;

static outcome walk(search *s, double *lower, double *upper, int depth) {
    char *end = NULL;
    if (depth > DEPTH_MAX || !*s->tree) return NO_TREE;
    if (*s->tree >= 'a' && *s->tree <= 'z') {
        s->tree++;
        s->leaf++;
        return prove_box(s, lower, upper, 0) ? PROVED : NOT_PROVED;
    }
    long axis = *s->tree >= '0' && *s->tree <= '9' ? strtol(s->tree, &end, 10) : -1;
    if (axis < 0 || axis >= s->n || !end || *end != '/') return NO_TREE;
    s->tree = end + 1;
    double low = lower[axis], high = upper[axis], middle = chk_middle(low, high);
    if (!(low < middle && middle < high)) return NO_TREE;
    upper[axis] = middle;
    outcome code = walk(s, lower, upper, depth + 1);
    upper[axis] = high;
    if (code != PROVED) return code;
    lower[axis] = middle;
    code = walk(s, lower, upper, depth + 1);
    lower[axis] = low;
    return code;
}

/* ---- models ---- */

typedef struct shelf {
    chk_model *models[MODELS_MAX];
    int n;
    const char *dir;
} shelf;

static const chk_model *find_model(shelf *models, const char *sha256, char *why) {
    char path[PATH_ROOM];
    for (int k = 0; k < models->n; k++)
        if (strcmp(models->models[k]->sha256, sha256) == 0) return models->models[k];
    for (int form = 0; form < 2 && models->dir && models->n < MODELS_MAX && strlen(sha256) == 64 && strspn(sha256, "0123456789abcdef") == 64;
         form++) {
        if (form == 0)
            snprintf(path, sizeof path, "%s/%s", models->dir, sha256);
        else
            snprintf(path, sizeof path, "%s/%.2s/%s", models->dir, sha256, sha256);
        chk_model *model = chk_model_read(path, why);
        if (!model) continue;
        if (strcmp(model->sha256, sha256) == 0) return models->models[models->n++] = model;
        chk_model_free(model);
    }
    snprintf(why, 200, "no file given is the model %.12s...", sha256);
    return NULL;
}

/* ---- the verdict ---- */

static int report(const search *s, outcome code) {
    if (code == PROVED) {
        printf("verified: %d %s, %ld boxes\n", s->leaves, s->leaves == 1 ? "leaf" : "leaves", s->limits.boxes);
        return 0;
    }
    if (code == NO_TREE)
        printf("not verified: the tree is damaged behind leaf %d\n", s->leaf);
    else if (s->stopped)
        printf("not verified: leaf %d of %d: given up at %s, %.4g times what is claimed\n", s->leaf, s->leaves, s->stopped, s->worst);
    else
        printf("not verified: leaf %d of %d: %.4g times what is claimed\n", s->leaf, s->leaves, s->worst);
    return 1;
}

/* Leaves of the text, whatever its shape. */
static int count_leaves(const char *tree) {
    int n = 0;
    for (; *tree; tree++) n += *tree >= 'a' && *tree <= 'z';
    return n;
}

/* What is no claim on parts of a box. 1: it does not hold. */
static int check_whole(const chk_claim *claim, search *s) {
    chk_round_up();
    bool proved = !claim->forever || chk_prove_forever(s->prover, &s->limits);
    if (proved && claim->stepwise && !claim->forever) proved = chk_prove_stepwise(s->prover, &s->limits);
    chk_round_nearest();
    if (!proved) printf("not verified: %s, in %ld boxes\n", claim->forever ? "what holds for ever" : "the steps one by one", s->limits.boxes);
    return !proved;
}

static int check(const chk_claim *claim, search *s) {
    double *lower = calloc(2 * (size_t)claim->n_box, sizeof *lower), *upper = lower + claim->n_box;
    if (!lower) return 2;
    memcpy(lower, claim->lower, (size_t)claim->n_box * sizeof *lower);
    memcpy(upper, claim->upper, (size_t)claim->n_box * sizeof *upper);
    s->n = claim->n_box;
    s->tree = claim->tree ? claim->tree : "c";
    s->leaves = count_leaves(s->tree);
    s->limits.start = clock();
    chk_round_up();
    bool reached = chk_prove_reached(s->prover);
    chk_round_nearest();
    if (!reached) printf("not verified: the witness does not reach what is said\n");
    int whole = !reached || check_whole(claim, s);
    if (whole || claim->stepwise) {
        free(lower);
        if (!whole) printf("verified: %ld boxes\n", s->limits.boxes);
        return whole;
    }
    chk_round_up();
    outcome code = walk(s, lower, upper, 0);
    chk_round_nearest();
    free(lower);
    if (code == PROVED && (*s->tree || (claim->tree && claim->leaves != s->leaves))) code = NO_TREE;
    return report(s, code);
}

static int run(const char *path, shelf *models, search *s) {
    char why[200] = "";
    chk_claim claim = {0};
    const chk_model *f = NULL, *g = NULL, *dynamics = NULL;
    int code = chk_claim_read(path, &claim, why);
    if (!code && !(f = find_model(models, claim.model_sha256, why))) code = 2;
    if (!code && *claim.reference_sha256 && !(g = find_model(models, claim.reference_sha256, why))) code = 2;
    if (!code && *claim.dynamics_sha256 && !(dynamics = find_model(models, claim.dynamics_sha256, why))) code = 2;
    if (!code && !(s->prover = chk_prover_create(&claim, f, g, dynamics, why))) code = 2;
    if (code)
        printf("%s: %s\n", code == 1 ? "not verified" : "cannot be checked", why);
    else
        code = check(&claim, s);
    chk_prover_free(s->prover);
    chk_claim_done(&claim);
    return code;
}

static int usage(void) {
    fputs("usage: espalier-check [--models DIR] [--seconds N] [--boxes N] CERTIFICATE [MODEL ...]\n"
          "  CERTIFICATE  as GET /v1/bounds/{id} gives it; MODEL as .../artifact?format=espalier, or found in DIR by its sha256\n"
          "  status 0: proved again, 1: not, 2: cannot be checked\n",
          stderr);
    return 2;
}

int main(int argc, char **argv) {
    shelf models = {.dir = NULL};
    search s = {.limits = {.boxes_most = 10000000, .seconds_most = 600}};
    const char *path = NULL;
    char why[200] = "";
    int code = 0;
    for (int i = 1; i < argc && !code; i++) {
        bool more = i + 1 < argc;
        if (strcmp(argv[i], "--models") == 0 && more)
            models.dir = argv[++i];
        else if (strcmp(argv[i], "--seconds") == 0 && more)
            s.limits.seconds_most = atof(argv[++i]);
        else if (strcmp(argv[i], "--boxes") == 0 && more)
            s.limits.boxes_most = atol(argv[++i]);
        else if (argv[i][0] == '-')
            code = usage();
        else if (!path)
            path = argv[i];
        else if (models.n == MODELS_MAX)
            code = usage();
        else if ((models.models[models.n] = chk_model_read(argv[i], why)))
            models.n++;
        else
            code = 2;
    }
    if (!code && !path) code = usage();
    if (*why) printf("cannot be checked: %s\n", why);
    if (!code) code = run(path, &models, &s);
    for (int k = 0; k < models.n; k++) chk_model_free(models.models[k]);
    return code;
}
