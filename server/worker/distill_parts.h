/* SPDX-License-Identifier: Apache-2.0
 * Inside the distill job.
 *
 *     job_distill.c    the spec, the order of things, the model and the result
 *     distill_plan.c   states into answers: what the planner would do there
 *     distill_share.c  states given to idle plan workers, and the helper's side of it
 *     distill_loop.c   closed loops on the learned model: states that the policy meets, and its regret */
#ifndef ESP_WORKER_DISTILL_PARTS_H
#define ESP_WORKER_DISTILL_PARTS_H

#include "base/rng.h"
#include "certify/certificate.h"
#include "plan/follow.h"
#include "train/distill.h"
#include "worker/worker.h"

/* What is planned with, in the job's process and in those that help it. */
typedef struct distill_planner {
    worker *w;
    worker_model *model;
    esp_planner *planner;
    esp_task *task;
    esp_present present;
    double plan_ms;
    esp_stop stop; /* of each plan; its deadline is set anew for each */
} distill_planner;

/* Of one round of training. */
typedef struct distill_round {
    size_t answers, unplanned; /* new ones */
    double loss, rmse, validation_rmse; /* after it; NaN without answers kept out */
} distill_round;

typedef struct distill_regret {
    size_t states, unplanned; /* measured from; those where the planner had no plan to begin with */
    size_t diverged, violations, planner_violations; /* of `states`: the policy's loop left the numbers; limits were broken */
    double mean, p50, p90, largest; /* NaN when all diverged or there are no states */
    double policy_cost, planner_cost, plan_objective; /* means: the two loops, and the planner's first plans */
} distill_regret;

/* A run of states that a helper has, by its share's number. */
typedef struct distill_given {
    uint64_t number;
    size_t first, n;
} distill_given;

enum { DISTILL_GIVEN = 64 };
enum { DISTILL_OPEN, DISTILL_UNPLANNED, DISTILL_PLANNED, DISTILL_OPTIMAL };

/* The states that are being planned from: before `next` answered, from `end` on given away or answered. */
typedef struct distill_share {
    const double *x; /* n x present.n */
    size_t n, next, end, left;
    uint8_t *answered; /* n of DISTILL_...; room for a round's most */
    double *u; /* n x nu */
    double *row; /* nu */
    distill_given given[DISTILL_GIVEN];
    int n_given;
    uint64_t asked; /* the share that was asked for and not given yet; 0: none */
    double seconds; /* that `own` plans took here */
    size_t own;
} distill_share;

typedef struct distilling {
    distill_planner p;
    const char *blob_dir, *task_id, *model_sha256;
    char task_sha256[ESP_HASH_HEX];
    esp_distill_opts opts;
    esp_box domain;
    esp_arena *arena;
    esp_rng rng, split; /* states drawn; answers kept out */
    size_t n, n_held; /* answers to train on and kept out; room for all */
    double *x, *u, *held_x, *held_u; /* inputs (present.n) and answers (nu) */
    size_t unplanned, optimal, helped; /* states without a plan; answers whose plan was proved optimal; answers of helpers */
    distill_share share;
    distill_round *rounds; /* opts.rounds + 1 */
    distill_regret regret;
    esp_regress *regress;
    esp_model *policy;
    /* what is told */
    int64_t told_ns;
    double done, total; /* in plans */
    const char *stage;
    double loss, validation_rmse; /* the latest, NaN before */
} distilling;

/* --- job_distill.c --- */
/* The payload's task and model, for planning. Also a helper's. */
ESP_MUST_CHECK esp_code distill_planner_read(worker *w, const esp_reader *payload, esp_arena *arena, distill_planner *ret, esp_error *reterr);
/* Tells how far the job is when it is time to. */
void distill_pulse(distilling *d);
/* A state of the domain into ret (present.n). */
void distill_draw(distilling *d, esp_rng *rng, double *ret);

/* --- distill_plan.c --- */
/* A plan from the present x within plan_ms, starting from `start` (horizon x nu, or NULL); one without inputs is an answer. The
 * caller's: esp_plan_result_done. Errors: CANCELLED, those of the planner as faults of /spec/task. */
ESP_MUST_CHECK esp_code distill_plan(distill_planner *p, const double *x, const double *start, esp_plan_result *ret, esp_error *reterr);
/* Plans from n states (n x present.n) and adds the answers. */
ESP_MUST_CHECK esp_code distill_answer(distilling *d, size_t n, const double *x, distill_round *round, esp_error *reterr);

/* --- distill_share.c --- */
/* Room in d->share is the caller's; x stays until the end. */
void distill_share_begin(distilling *d, size_t n, const double *x);
void distill_share_end(distilling *d);
/* The next state to plan from here; false when all are answered. */
bool distill_share_next(distilling *d, size_t *ret_at);
/* Its answer, u NULL for none; the first one counts. */
void distill_share_answer(distilling *d, size_t at, const double *u, bool optimal);
/* Takes what helpers sent and gives what was asked for; at any time during the job. */
void distill_share_look(distilling *d);

/* --- distill_loop.c --- */
/* States that the policy's loops meet inside the domain, at most `most`, into ret (most x present.n). */
ESP_MUST_CHECK esp_code distill_visit(distilling *d, size_t most, double *ret, size_t *ret_n, esp_error *reterr);
/* The policy's loop beside the planner's from states of their own. */
ESP_MUST_CHECK esp_code distill_measure(distilling *d, esp_error *reterr);

#endif
