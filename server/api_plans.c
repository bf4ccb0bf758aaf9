/* SPDX-License-Identifier: Apache-2.0
 * POST /v1/plans and /v1/plans/batch: from a call to plans (plans.h) and back. */
#include "api.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "ndjson.h"
#include "plans.h"

enum { BATCH_MAX = 10000 };

static esp_code refuse_when_draining(esp_server *server, esp_error *reterr) {
    return atomic_load(&server->draining) ? esp_fail(reterr, ESP_DRAINING, "the service is shutting down") : ESP_OK;
}

/* ---- one plan ---- */

static void answer_call(esp_plan_job *plan, esp_buf *take_body, const esp_error *error) {
    esp_call *call = plan->to;
    if (error)
        esp_call_reply_error(call, error);
    else
        esp_call_reply_json(call, 200, take_body);
    esp_plan_job_free(plan); /* after the reply: until it, a hang-up may look at the plan */
}

static void on_hangup(void *user) {
    const esp_plan_job *plan = user;
    esp_pool_cancel(plan->server->pool, plan->work);
}

void esp_api_plans_create(esp_server *server, esp_call *call) {
    static const char *const query[] = {NULL};
    const esp_json *json = NULL;
    esp_plan_job *plan = NULL;
    esp_error error = {0};
    esp_code code = refuse_when_draining(server, &error);
    if (!code) code = esp_call_query_check(call, query, &error);
    if (!code) code = esp_call_json(call, &json, &error);
    if (!code) {
        esp_reader root = esp_reader_root(json);
        code = esp_plan_job_create(server, &root, &plan, &error);
    }
    if (code) {
        esp_call_reply_error(call, &error);
        return;
    }
    plan->answer = answer_call;
    plan->to = call;
    plan->work = esp_pool_id(server->pool);
    int64_t arrived_ns = esp_call_arrived_ns(call);
    esp_call_keep(call, on_hangup, plan);
    if (!esp_plan_job_submit(plan, arrived_ns, &error)) return;
    esp_call_reply_error(call, &error);
    esp_plan_job_free(plan);
}

/* ---- a batch ----
 * At most as many lines as there are plan workers are under way at once, so that a batch does not fill the queue of
 * everybody else; a line's deadline counts from its turn. Lines are answered in any order and sent in theirs. */

typedef struct plan_batch {
    esp_server *server;
    esp_call *call;
    pthread_mutex_t lock; /* what follows */
    size_t n, next, under_way;
    bool hung_up;
    esp_plan_job **plans; /* waiting or under way; NULL when answered */
    esp_buf *replies;
} plan_batch;

static void batch_free(plan_batch *b) {
    if (!b) return;
    for (size_t i = 0; i < b->n; i++) {
        if (b->plans) esp_plan_job_free(b->plans[i]);
        if (b->replies) esp_buf_done(&b->replies[i]);
    }
    pthread_mutex_destroy(&b->lock);
    free(b->plans);
    free(b->replies);
    free(b);
}

static void batch_reply(plan_batch *b) {
    esp_buf out = {0};
    for (size_t i = 0; i < b->n; i++) {
        out.failed = out.failed || b->replies[i].failed;
        esp_buf_put(&out, b->replies[i].data, b->replies[i].len);
        esp_buf_puts(&out, "\n");
        esp_buf_done(&b->replies[i]);
    }
    esp_call_reply(b->call, 200, ESP_NDJSON_TYPE, &out);
    batch_free(b);
}

/* Under the lock: the line's answer is an error. */
static void refuse_line(plan_batch *b, size_t line, const esp_error *error) {
    esp_problem_format(esp_call_request_id(b->call), error, &b->replies[line]);
    esp_plan_job_free(b->plans[line]);
    b->plans[line] = NULL;
}

/* Under the lock. */
static void start_line(plan_batch *b, size_t line) {
    esp_error error = {0};
    if (!b->plans[line]) return; /* refused when it was read */
    if (b->hung_up)
        esp_fail(&error, ESP_CANCELLED, "the client hung up");
    else if (!esp_plan_job_submit(b->plans[line], esp_clock_now_ns(), &error))
        b->under_way++;
    if (error.code) refuse_line(b, line, &error);
}

/* Starts what may start; true when the batch is answered. */
static bool batch_pump(plan_batch *b) {
    pthread_mutex_lock(&b->lock);
    while (b->next < b->n && b->under_way < (size_t)b->server->config.workers) start_line(b, b->next++);
    bool over = b->next == b->n && b->under_way == 0;
    pthread_mutex_unlock(&b->lock);
    return over;
}

static void answer_line(esp_plan_job *plan, esp_buf *take_body, const esp_error *error) {
    plan_batch *b = plan->to;
    size_t line = plan->line;
    pthread_mutex_lock(&b->lock);
    b->under_way--;
    if (error) {
        refuse_line(b, line, error);
    } else {
        b->replies[line] = *take_body;
        *take_body = (esp_buf){0};
        b->plans[line] = NULL;
        esp_plan_job_free(plan);
    }
    pthread_mutex_unlock(&b->lock);
    if (batch_pump(b)) batch_reply(b);
}

static void on_batch_hangup(void *user) {
    plan_batch *b = user;
    pthread_mutex_lock(&b->lock);
    b->hung_up = true;
    for (size_t i = 0; i < b->next; i++)
        if (b->plans[i]) esp_pool_cancel(b->server->pool, b->plans[i]->work);
    pthread_mutex_unlock(&b->lock);
}

/* Every line read and checked; what is wrong is that line's answer. */
static void batch_parse(plan_batch *b, const char *body, size_t len) {
    const char *text = NULL;
    size_t pos = 0, n = 0;
    for (size_t i = 0; esp_ndjson_next(body, len, &pos, &text, &n); i++) {
        esp_json *json = NULL;
        esp_error error = {0};
        esp_code code = esp_json_parse(text, n, &json, &error);
        esp_reader root = esp_reader_root(json);
        if (!code) code = esp_plan_job_create(b->server, &root, &b->plans[i], &error);
        esp_json_free(json);
        if (code) {
            refuse_line(b, i, &error);
            continue;
        }
        b->plans[i]->answer = answer_line;
        b->plans[i]->to = b;
        b->plans[i]->line = i;
        b->plans[i]->work = esp_pool_id(b->server->pool);
    }
}

static plan_batch *batch_create(esp_server *server, esp_call *call, size_t n) {
    plan_batch *b = calloc(1, sizeof *b);
    if (!b) return NULL;
    pthread_mutex_init(&b->lock, NULL);
    b->server = server;
    b->call = call;
    b->n = n;
    b->plans = calloc(n, sizeof(esp_plan_job *));
    b->replies = calloc(n, sizeof *b->replies);
    if (b->plans && b->replies) return b;
    batch_free(b);
    return NULL;
}

void esp_api_plans_batch(esp_server *server, esp_call *call) {
    esp_error error = {0};
    plan_batch *b = NULL;
    size_t len = 0;
    const char *body = esp_call_body(call, &len);
    size_t n = esp_ndjson_count(body, len);
    esp_code code = refuse_when_draining(server, &error);
    if (!code && (n == 0 || n > BATCH_MAX)) code = esp_fail(&error, ESP_INVALID, "a batch has 1 to %d lines, not %zu", BATCH_MAX, n);
    if (!code && !(b = batch_create(server, call, n))) code = esp_fail(&error, ESP_NOMEM, "no memory for a batch of %zu lines", n);
    if (code) {
        esp_call_reply_error(call, &error);
        return;
    }
    batch_parse(b, body, len);
    esp_call_keep(call, on_batch_hangup, b);
    if (batch_pump(b)) batch_reply(b);
}
