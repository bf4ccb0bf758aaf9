/* SPDX-License-Identifier: Apache-2.0
 * One plan request on its way through the daemon. Private to the plan endpoints.
 *
 *     plan_parse.c   the request checked, its frame made ready        handler threads
 *     plan_reply.c   the worker's frames; the answer, whatever came   the supervisor thread
 *     api_plans.c    one call, or a batch of lines
 *
 * A plan is made by esp_plan_job_create, given to the pool by esp_plan_job_submit, and answers exactly once through
 * `answer`, which owns it then. */
#ifndef ESP_SERVER_PLANS_H
#define ESP_SERVER_PLANS_H

#include "plan/task.h"
#include "pool/pool.h"
#include "server.h"
#include "session.h"

typedef struct esp_plan_job {
    esp_server *server;
    char id[ESP_ID_MAX];
    struct {
        char id[ESP_ID_MAX], name[ESP_NAME_MAX + 1], sha256[ESP_HASH_HEX];
        int64_t version;
    } model;
    esp_arena *arena; /* of the task */
    esp_task *task;
    double deadline_ms;
    char session[ESP_SESSION_NAME_MAX + 1]; /* "" for none */
    esp_buf request; /* the PLAN payload up to its last members */

    uint64_t work; /* number in the pool */
    int64_t arrived_ns, deadline_ns;

    /* the supervisor's */
    double *previous; /* horizon x nu, the session's plan one step on; NULL for none */
    bool previous_sought;
    esp_buf incumbent, bound; /* latest payloads; bound is empty when the incumbent is newer */

    /* Takes the body (200) or reads the error; frees the plan. On the supervisor thread. */
    void (*answer)(struct esp_plan_job *plan, esp_buf *take_body, const esp_error *error);
    void *to;
    size_t line; /* of a batch */
} esp_plan_job;

/* `root` is the request. Reads the registry. Errors name the field. */
ESP_MUST_CHECK esp_code esp_plan_job_create(esp_server *server, const esp_reader *root, esp_plan_job **ret_plan, esp_error *reterr);
void esp_plan_job_free(esp_plan_job *plan);
/* The deadline counts from arrived_ns. On failure no answer comes and the plan is still the caller's. */
ESP_MUST_CHECK esp_code esp_plan_job_submit(esp_plan_job *plan, int64_t arrived_ns, esp_error *reterr);

/* ny of a task: the model's, or with `objects` that of a graph network with so many. The error names the field. */
ESP_MUST_CHECK esp_code esp_task_ny(const esp_reader *task, const esp_model_row *model, int64_t *ret_ny, esp_error *reterr);

#endif
