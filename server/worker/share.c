/* SPDX-License-Identifier: Apache-2.0
 * The worker's end of a shared search: frames about shares of a plan, between the nodes of its tree. See
 * server/pool/share.c for who helps whom and lib/plan/share.h for what keeps that sound. */
#include "worker/share.h"

#include <math.h>
#include <stdlib.h>

#include "worker/worker.h"

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

static void on_ask(worker_share *s, const esp_reader *payload) {
    esp_reader member = esp_read_member(payload, "share");
    int64_t number = 0;
    if (esp_read_integer(&member, 0, INT64_MAX, &number, NULL) != ESP_OK) return;
    s->asked = true;
    s->number = (uint64_t)number;
}

static void lose(worker_share *s, esp_tree *tree, uint64_t number) {
    esp_tree_share_lost(tree, number);
    if (s->pulled == number) s->pulled = 0;
}

/* A result without a bound says that there is no plan at all; one that cannot be read says nothing. */
static void on_done(worker_share *s, esp_tree *tree, uint64_t number, const esp_reader *payload) {
    double bound = INFINITY, nodes = 0;
    if (read_number(payload, "lower_bound", &bound) && read_number(payload, "nodes", &nodes))
        esp_tree_share_done(tree, number, bound, (int64_t)nodes);
    lose(s, tree, number); /* no share of that number is left when it could be read */
}

/* From the other tree of a share, or about it. */
static void on_share(worker_share *s, esp_tree *tree, const esp_frame_header *header, const esp_reader *payload) {
    double bound = -INFINITY;
    switch ((esp_frame_type)header->type) {
    case ESP_FRAME_BOUND:
        if (read_number(payload, "lower_bound", &bound)) esp_tree_share_bound(tree, header->task, bound);
        break;
    case ESP_FRAME_DONE: on_done(s, tree, header->task, payload); break;
    case ESP_FRAME_CANCEL:
    case ESP_FRAME_ERROR: lose(s, tree, header->task); break;
    default: break;
    }
}

static void on_nodes(worker_share *s, esp_tree *tree, const esp_frame_header *header, const char *payload) {
    /* What cannot be taken is still in the copy. */
    if (header->task == s->w->task) return;
    if (esp_tree_take(tree, payload, header->length, NULL) != ESP_OK) lose(s, tree, header->task);
    if (s->pulled == header->task) s->pulled = 0;
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

/* What was asked for goes out as soon as the tree is wide enough. */
static void answer(worker_share *s, esp_tree *tree) {
    esp_buf_clear(&s->nodes);
    if (!s->asked || !esp_tree_give(tree, s->number, &s->nodes)) return;
    worker_send_about(s->w, ESP_FRAME_NODES, s->number ? s->number : s->w->task, &s->nodes);
    s->asked = false;
}

void worker_share_look(void *user, esp_tree *tree) {
    worker_share *s = user;
    esp_frame_header header;
    const char *payload = NULL;
    while (worker_next(s->w, &header, &payload)) on_frame(s, tree, &header, payload);
    answer(s, tree);
}

/* Nothing is open here: some of the share that has most to do, unless that was asked for already. */
void worker_share_wait(void *user, esp_tree *tree) {
    static char text[] = "{}";
    const esp_buf nothing = {.data = text, .len = sizeof text - 1};
    worker_share *s = user;
    if (!s->pulled && (s->pulled = esp_tree_share_least(tree))) worker_send_about(s->w, ESP_FRAME_SHARE, s->pulled, &nothing);
    worker_wait(s->w, s->deadline_ns);
}

void worker_share_done(worker_share *s) {
    esp_buf_done(&s->nodes);
}
