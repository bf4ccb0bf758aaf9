/* SPDX-License-Identifier: Apache-2.0
 * Things to put into a daemon under test: a cart on a rail as data and as models, and the processes it has. */
#ifndef ESP_TESTS_RAIL_H
#define ESP_TESTS_RAIL_H

#include "support/http.h"

/* Dataset `name`: n trajectories of 20 steps, ny 2 (position, speed), nu 1. */
void rail_upload_data(const test_daemon *daemon, const char *name, int n);
/* Model `name`: y+ = y + 0.5 u exactly, ny 1, nu 1, no ReLU. */
void rail_upload_line(const test_daemon *daemon, const char *name);
/* Model `name`: two hidden layers of `width` random ReLUs, ny 2, nu 1, residual: hard to plan with when wide. */
void rail_upload_random(const test_daemon *daemon, const char *name, int width, unsigned seed);
/* Task `name` for a model of ny 2: position to the goal over `horizon` steps, |u| <= 1, safe input 0. */
void rail_store_task(const test_daemon *daemon, const char *name, const char *model, int horizon);

/* Submits a job and gives its id; the test fails when it is refused. */
const char *rail_submit(const test_daemon *daemon, const char *json, char ret_id[64]);
/* Waits until the job is in the state, or has ended; the reply is the job. */
http_reply rail_wait_state(const test_daemon *daemon, const char *id, const char *state);
/* Waits up to wait_s for its end. */
http_reply rail_wait_end(const test_daemon *daemon, const char *id, int wait_s);

/* A train job that takes many seconds. */
extern const char rail_long_job[];

typedef enum rail_class { RAIL_PLAN, RAIL_BATCH } rail_class;
/* Worker processes of the daemon, told apart by their niceness; at most `room`. */
int rail_workers(const test_daemon *daemon, rail_class class, pid_t *ret_pids, int room);

/* Runs, or is stopped; a zombie does not. */
bool rail_alive(pid_t pid);

#endif
