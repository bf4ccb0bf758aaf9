/* SPDX-License-Identifier: Apache-2.0
 * The worker's end of a shared search: frames about shares of a plan, between the nodes of its tree. See
 * server/pool/share.c for who helps whom and lib/plan/share.h for what keeps that sound. */
#include "worker/share.h"

#include <math.h>
#include <stdlib.h>

#include "worker/worker.h"

#define BALANCE_NS (20 * ESP_NS_PER_MS)
#define TELL_NS    (5 * ESP_NS_PER_MS)
#define SILENCE_NS (2 * ESP_NS_PER_S) /* a share that does not answer for so long is searched here */

/* A number of the frame's payload, left as it is when it is not there. */
static bool read_number(const esp_reader *payload, const char *key, double *ret) {
    esp_reader member = esp_read_member(payload, key);
    return esp_read_number(&member, -1e300, 1e300, ret, NULL) == ESP_OK;
}

static void take_incumbent(const worker_share *s, esp_tree *tree, const esp_reader *payload) {
    esp_reader inputs = esp_read_member(payload, "inputs");
    double *values = malloc((size_t)s->horizon * (size_t)s->nu * sizeof *values);
    if (values && esp_read_matrix(&inputs, (size_t)s->horizon, (size_t)s->nu, values, NULL) == ESP_OK) (void)esp_tree_offer(tree, values);
    free(values);
}

/* A plan is asked for a new share, a share for nodes back. */
static void on_ask(worker_share *s, const esp_reader *payload) {
    esp_reader member = esp_read_member(payload, "share");
    int64_t number = 0;
    if (s->lots > 0) {
        s->below = INFINITY;
        s->wanted = read_number(payload, "below", &s->below);
    } else if (esp_read_integer(&member, 1, INT64_MAX, &number, NULL) == ESP_OK) {
        s->asked = (uint64_t)number;
    }
}

static void lose(worker_share *s, esp_tree *tree, uint64_t number) {
    esp_tree_share_lost(tree, number);
    if (s->pulled == number) s->pulled = 0;
}

/* A result without a bound says that there is no plan at all; one that cannot be read says nothing. */
static void on_done(worker_share *s, esp_tree *tree, uint64_t number, const esp_reader *payload) {
    double bound = INFINITY, nodes = 0, lots = 0;
    if (read_number(payload, "lower_bound", &bound) && read_number(payload, "nodes", &nodes) && read_number(payload, "lots", &lots))
        esp_tree_share_done(tree, number, (int)lots, bound, (int64_t)nodes);
    lose(s, tree, number); /* no share of that number is left when it could be read */
}

/* From the other tree of a share, or about it. */
static void on_share(worker_share *s, esp_tree *tree, const esp_frame_header *header, const esp_reader *payload) {
    double bound = -INFINITY, lots = 0;
    switch ((esp_frame_type)header->type) {
    case ESP_FRAME_BOUND:
        if (read_number(payload, "lower_bound", &bound) && read_number(payload, "lots", &lots))
            esp_tree_share_bound(tree, header->task, (int)lots, bound);
        break;
    case ESP_FRAME_DONE: on_done(s, tree, header->task, payload); break;
    case ESP_FRAME_CANCEL:
    case ESP_FRAME_ERROR: lose(s, tree, header->task); break;
    default: break;
    }
}

/* What a plan cannot take back is still in its copy. A share that cannot take a lot must not answer for later ones. */
static void on_nodes(worker_share *s, esp_tree *tree, const esp_frame_header *header, const char *payload) {
    esp_code code = esp_tree_take(tree, payload, header->length, NULL);
    if (header->task != s->w->task) {
        if (code != ESP_OK) lose(s, tree, header->task);
        if (s->pulled == header->task) s->pulled = 0;
    } else if (code != ESP_OK) {
        s->w->cancelled = true;
    } else {
        s->lots++;
    }
}

static void on_frame(worker_share *s, esp_tree *tree, const esp_frame_header *header, const char *text) {
    esp_json *json = NULL;
    if (header->type == ESP_FRAME_NODES) {
        on_nodes(s, tree, header, text);
        return;
    }
    if (esp_json_parse(text, header->length, &json, NULL) != ESP_OK) {
        lose(s, tree, header->task);
        return;
    }
    esp_reader payload = esp_reader_root(json);
    if (header->type == ESP_FRAME_INCUMBENT)
        take_incumbent(s, tree, &payload);
    else if (header->task != s->w->task)
        on_share(s, tree, header, &payload);
    else if (header->type == ESP_FRAME_SHARE)
        on_ask(s, &payload);
    esp_json_free(json);
}

/* ---- a plan's ---- */

static void pull(worker_share *s, uint64_t number, double below) {
    if (s->pulled || !number) return;
    s->pulled = number;
    s->pulled_ns = esp_clock_now_ns();
    esp_buf_clear(&s->out);
    esp_jsonw json = esp_jsonw_on(&s->out);
    esp_jsonw_object(&json, NULL);
    esp_jsonw_number(&json, "below", below);
    esp_jsonw_object_end(&json);
    worker_send_about(s->w, ESP_FRAME_SHARE, number, &s->out);
}

static void give(worker_share *s, esp_tree *tree, uint64_t number, double below) {
    esp_buf_clear(&s->out);
    if (!number || !esp_tree_give(tree, number, below, &s->out)) return;
    worker_send_about(s->w, ESP_FRAME_NODES, number, &s->out);
    if (s->asked == number) s->asked = 0;
}

/* Nodes go where bounds are far ahead. */
static void balance(worker_share *s, esp_tree *tree) {
    double below = INFINITY;
    int64_t now = esp_clock_now_ns();
    give(s, tree, s->asked, INFINITY); /* as soon as the tree is wide enough */
    if (now - s->balanced_ns < BALANCE_NS) return;
    s->balanced_ns = now;
    uint64_t number = esp_tree_share_ahead(tree, &below);
    if (number)
        give(s, tree, number, below);
    else
        pull(s, esp_tree_share_behind(tree, &below), below);
}

/* ---- a share's ---- */

static void report(worker_share *s, esp_tree *tree) {
    int64_t now = esp_clock_now_ns();
    double bound = esp_tree_bound(tree);
    if (s->wanted) {
        esp_buf_clear(&s->out);
        esp_tree_give_back(tree, s->below, &s->out);
        worker_send_about(s->w, ESP_FRAME_NODES, s->w->task, &s->out);
        s->wanted = false;
    }
    if (now - s->told_ns < TELL_NS || bound == s->told) return;
    s->told = bound;
    s->told_ns = now;
    esp_buf_clear(&s->out);
    esp_jsonw json = esp_jsonw_on(&s->out);
    esp_jsonw_object(&json, NULL);
    esp_jsonw_number(&json, "lower_bound", bound);
    esp_jsonw_integer(&json, "lots", s->lots);
    esp_jsonw_object_end(&json);
    worker_send_about(s->w, ESP_FRAME_BOUND, s->w->task, &s->out);
}

/* ---- hooks ---- */

void worker_share_look(void *user, esp_tree *tree) {
    worker_share *s = user;
    esp_frame_header header;
    const char *payload = NULL;
    while (worker_next(s->w, &header, &payload)) on_frame(s, tree, &header, payload);
    if (s->lots > 0)
        report(s, tree);
    else
        balance(s, tree);
}

/* Nothing is open here: some of the share that has most to do. */
void worker_share_wait(void *user, esp_tree *tree) {
    worker_share *s = user;
    if (s->pulled && esp_clock_now_ns() - s->pulled_ns > SILENCE_NS) lose(s, tree, s->pulled);
    pull(s, esp_tree_share_least(tree), INFINITY);
    worker_wait(s->w, s->deadline_ns);
}

void worker_share_done(worker_share *s) {
    esp_buf_done(&s->out);
}
