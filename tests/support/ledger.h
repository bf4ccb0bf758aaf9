/* SPDX-License-Identifier: Apache-2.0
 * A client that writes down what was acknowledged, for a daemon that is killed at any moment.
 *
 * A ledger has names of its own and one request under way at a time, so it knows exactly what the service must hold: all that was
 * acknowledged, and of the one request that broke either all or nothing. Which of the two is found out after the restart: by
 * sending a creation again under its Idempotency-Key, by looking for the rest. So nothing may be missing, and nothing be there twice. */
#ifndef ESP_TESTS_LEDGER_H
#define ESP_TESTS_LEDGER_H

#include <stdint.h>

/* SYMBOL, its share among the requests, what it is. */
#define LEDGER_OPS                                                                                                                                   \
    X(DATASET, 8, "datasets")                                                                                                                        \
    X(UPLOAD, 2, "large datasets")                                                                                                                   \
    X(MODEL, 8, "models")                                                                                                                            \
    X(TASK, 2, "tasks")                                                                                                                              \
    X(EPISODE, 8, "episodes")                                                                                                                        \
    X(JOB, 3, "jobs")                                                                                                                                \
    X(BATCH, 1, "batches of jobs")                                                                                                                   \
    X(CANCEL, 1, "cancels")                                                                                                                          \
    X(ALIAS, 6, "aliases")                                                                                                                           \
    X(TAG, 4, "tags")                                                                                                                                \
    X(UNTAG, 4, "tags taken off")                                                                                                                    \
    X(DELETE, 4, "deletions")                                                                                                                        \
    X(PLAN, 6, "plans")                                                                                                                              \
    X(READ, 8, "reads")
typedef enum ledger_op {
#define X(symbol, share, name) LEDGER_##symbol,
    LEDGER_OPS
#undef X
        LEDGER_N
} ledger_op;
extern const char *const ledger_names[LEDGER_N];

typedef struct ledger ledger;
ledger *ledger_create(int number, uint64_t seed);
void ledger_free(ledger *l);
/* Requests at random until the connection breaks. For a thread of its own. */
void ledger_load(ledger *l, int port);
/* The request that broke: done or not, and then all of it. */
void ledger_settle(ledger *l, int port);
/* What it holds is there: all of it, or `some` of each kind, drawn. */
void ledger_verify(ledger *l, int port, long some);
/* Waits for the end of every job; each has run to it once. */
void ledger_wait_jobs(ledger *l, int port);
/* Rows of each kind that only this ledger has made. */
void ledger_count(ledger *l, int port);
/* What was not as it had to be, "" for nothing: no call above ends a test by itself. */
const char *ledger_complaint(const ledger *l);
long ledger_acknowledged(const ledger *l, ledger_op op);

#endif
