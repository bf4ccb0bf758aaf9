/* SPDX-License-Identifier: Apache-2.0
 * States to plan from, shared with idle plan workers by the exchange that shares a plan's search (server/pool/share.c): asked for some
 * (SHARE, with a number) the job gives a run of states away (NODES), and their answers come back (DONE).
 *
 * The job plans from the front, gives away from the back, and when the two meet plans what was given away and is not answered yet
 * itself, whoever answers first. So nobody is waited for: a helper may be called off by a robot's plan, hang or die at any moment.
 * How much is given follows from how long plans take, some 0.2 s: a helper that is called off loses no more. */
#include <stdlib.h>
#include <string.h>

#include "worker/distill_parts.h"
#include "worker/share.h"

#define SHARE_S 0.2

/* CBC cannot be interrupted: a helper that must make room would have to be killed. */
static bool may_share(const distilling *d) {
    const esp_task *t = d->p.task;
    return t->method != ESP_METHOD_MIP || (t->engine != ESP_ENGINE_CBC && t->n_avoid == 0);
}

void distill_share_begin(distilling *d, size_t n, const double *x) {
    distill_share *s = &d->share;
    memset(s->answered, 0, n);
    s->x = x;
    s->next = 0;
    s->end = s->n = s->left = n;
    s->n_given = 0;
    s->seconds = 0;
    s->own = 0;
}

void distill_share_end(distilling *d) {
    d->share.n = d->share.next = d->share.end = d->share.n_given = 0;
}

bool distill_share_next(distilling *d, size_t *ret_at) {
    distill_share *s = &d->share;
    while (s->next < s->n && s->answered[s->next]) s->next++; /* past `end`: what was given away */
    if (s->next > s->end) s->end = s->next;
    *ret_at = s->next;
    return s->next < s->n;
}

void distill_share_answer(distilling *d, size_t at, const double *u, bool optimal) {
    distill_share *s = &d->share;
    if (s->answered[at]) return;
    s->answered[at] = (uint8_t)(u ? (optimal ? DISTILL_OPTIMAL : DISTILL_PLANNED) : DISTILL_UNPLANNED);
    if (u) memcpy(s->u + at * (size_t)d->p.present.nu, u, (size_t)d->p.present.nu * sizeof *u);
    s->left--;
    d->done++;
}

/* ---- frames ---- */

static distill_given *find(distill_share *s, uint64_t number) {
    for (int k = 0; k < s->n_given; k++)
        if (s->given[k].number == number) return &s->given[k];
    return NULL;
}

/* What it answered is answered; what it did not is planned from again, here. */
static void forget(distill_share *s, distill_given *given) {
    *given = s->given[--s->n_given];
}

/* One answer, {"u": null or [..], "optimal": bool}; one that cannot be read is none. */
static void take_answer(distilling *d, size_t at, const esp_reader *answer) {
    esp_reader u = esp_read_member(answer, "u"), optimal = esp_read_member(answer, "optimal");
    bool proved = false;
    if (esp_reader_kind(answer) != ESP_JSON_OBJECT || esp_read_bool(&optimal, &proved, NULL)) return;
    if (u.value && esp_read_vector(&u, (size_t)d->p.present.nu, d->share.row, NULL)) return;
    if (!d->share.answered[at]) d->helped += u.value != NULL;
    distill_share_answer(d, at, u.value ? d->share.row : NULL, proved);
}

static void on_done(distilling *d, distill_given *given, const char *text, size_t len) {
    esp_json *json = NULL;
    size_t n = 0;
    if (esp_json_parse(text, len, &json, NULL)) return;
    esp_reader root = esp_reader_root(json), list = esp_read_member(&root, "answers");
    if (list.value && !esp_read_array(&list, given->n, given->n, &n, NULL))
        for (size_t i = 0; i < n; i++) {
            esp_reader answer = esp_read_element(&list, i);
            take_answer(d, given->first + i, &answer);
        }
    esp_json_free(json);
}

static void on_ask(distilling *d, const char *text, size_t len) {
    esp_json *json = NULL;
    int64_t number = 0;
    if (esp_json_parse(text, len, &json, NULL)) return;
    esp_reader root = esp_reader_root(json), member = esp_read_member(&root, "share");
    if (!esp_read_integer(&member, 1, INT64_MAX, &number, NULL)) d->share.asked = (uint64_t)number;
    esp_json_free(json);
}

/* ---- giving ---- */

/* Of what is open at most half, and no more than a helper should have to lose; none before a plan was timed. */
static size_t worth(const distilling *d) {
    const distill_share *s = &d->share;
    size_t open = s->end > s->next ? s->end - s->next : 0;
    if (!may_share(d) || !s->own || open < 3 || s->n_given == DISTILL_GIVEN) return 0;
    double each = s->seconds / (double)s->own, most = SHARE_S / (each > 1e-6 ? each : 1e-6);
    size_t half = (open - 1) / 2;
    return most < 1 ? 1 : most < (double)half ? (size_t)most : half;
}

static void give(distilling *d) {
    distill_share *s = &d->share;
    size_t n = s->asked ? worth(d) : 0, width = (size_t)d->p.present.n;
    esp_buf text = {0};
    if (!n) return;
    esp_jsonw json = esp_jsonw_on(&text);
    esp_jsonw_object(&json, NULL);
    esp_jsonw_matrix(&json, "states", s->x + (s->end - n) * width, n, width);
    esp_jsonw_object_end(&json);
    if (!text.failed && text.len <= ESP_FRAME_MAX) {
        s->end -= n;
        s->given[s->n_given++] = (distill_given){s->asked, s->end, n};
        worker_send_about(d->p.w, ESP_FRAME_NODES, s->asked, &text);
        s->asked = 0;
    }
    esp_buf_done(&text);
}

void distill_share_look(distilling *d) {
    esp_frame_header header;
    const char *payload = NULL;
    while (worker_next(d->p.w, &header, &payload)) {
        distill_given *given = find(&d->share, header.task);
        if (header.type == ESP_FRAME_SHARE && header.task == d->p.w->task) on_ask(d, payload, header.length);
        if (!given) continue;
        if (header.type == ESP_FRAME_DONE) on_done(d, given, payload, header.length);
        if (header.type == ESP_FRAME_DONE || header.type == ESP_FRAME_ERROR || header.type == ESP_FRAME_CANCEL) forget(&d->share, given);
    }
    give(d);
}

/* ---- the other side ---- */

static esp_code answer_all(distill_planner *p, const double *x, size_t n, esp_jsonw *json, esp_error *reterr) {
    esp_code code = ESP_OK;
    esp_jsonw_array(json, "answers");
    for (size_t i = 0; !code && i < n; i++) {
        esp_plan_result result = {0};
        code = distill_plan(p, x + i * (size_t)p->present.n, NULL, &result, reterr);
        if (code) break;
        esp_jsonw_object(json, NULL);
        if (result.best.inputs)
            esp_jsonw_vector(json, "u", result.best.inputs, (size_t)p->present.nu);
        else
            esp_jsonw_null(json, "u");
        esp_jsonw_bool(json, "optimal", result.status == ESP_PLAN_OPTIMAL);
        esp_jsonw_object_end(json);
        esp_plan_result_done(&result);
    }
    esp_jsonw_array_end(json);
    return code;
}

static esp_code read_states(worker *w, const distill_planner *p, esp_arena *arena, double **ret_x, size_t *ret_n, esp_error *reterr) {
    esp_buf text = {0};
    esp_json *json = NULL;
    size_t width = 0;
    esp_code code = worker_receive_nodes(w, &text, reterr);
    if (!code) code = esp_json_parse(text.data, text.len, &json, reterr);
    if (!code) {
        esp_reader root = esp_reader_root(json), states = esp_read_member(&root, "states");
        code = esp_read_matrix_any(&states, ESP_FRAME_MAX, (size_t)p->present.n, arena, ret_x, ret_n, &width, reterr);
        if (!code && width != (size_t)p->present.n) code = esp_fail(reterr, ESP_CORRUPT, "states of %zu numbers came with a share", width);
    }
    esp_json_free(json);
    esp_buf_done(&text);
    return code;
}

esp_code worker_help_distill(worker *w, const esp_reader *payload, esp_error *reterr) {
    distill_planner p;
    esp_distill_opts opts;
    double *x = NULL;
    size_t n = 0;
    esp_buf text = {0};
    esp_jsonw json = esp_jsonw_on(&text);
    esp_reader spec = esp_read_member(payload, "spec");
    esp_arena *arena = esp_arena_create(0);
    esp_code code = arena ? distill_planner_read(w, payload, arena, &p, reterr) : esp_fail(reterr, ESP_NOMEM, "no memory for a share");
    if (!code) code = esp_distill_opts_parse(&spec, p.present.n, p.present.nu, &opts, reterr);
    if (!code) code = read_states(w, &p, arena, &x, &n, reterr);
    if (!code) {
        p.plan_ms = opts.plan_ms;
        esp_jsonw_object(&json, NULL);
        code = answer_all(&p, x, n, &json, reterr);
        esp_jsonw_object_end(&json);
    }
    if (!code) worker_send(w, ESP_FRAME_DONE, &text);
    esp_buf_done(&text);
    esp_arena_free(arena);
    return code;
}
