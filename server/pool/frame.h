/* SPDX-License-Identifier: Apache-2.0
 * Frames between the daemon and a worker: schema/formats/worker-frames.md.
 *
 *     magic u32 "ESF1" | type u16 | reserved u16 (0) | task u64 | length u32 | payload (JSON, length bytes)
 *
 * Little-endian, over a SOCK_STREAM socketpair on the worker's fd 3. The same bytes travel over a message bus. */
#ifndef ESP_SERVER_FRAME_H
#define ESP_SERVER_FRAME_H

#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"

#define ESP_FRAME_HEADER 20
#define ESP_FRAME_MAX    (64u << 20)

typedef enum esp_frame_type {
    /* daemon -> worker */
    ESP_FRAME_PLAN = 1, /* {task, model:{path,sha256,...}, y, u, goal, start, budget_ms} */
    ESP_FRAME_JOB = 2, /* {kind, spec, dataset:{..}, models:{..}, blob_dir, attempt} */
    ESP_FRAME_PREDICT = 3, /* requests, bytes: {model} and any number of {x} */
    ESP_FRAME_QUERY = 4, /* requests: {model, candidate?} and {states, error_threshold?}: closed-form constants */
    ESP_FRAME_CANCEL = 5, /* {} : stop this task soon */
    ESP_FRAME_PING = 6,
    ESP_FRAME_ARTIFACT = 7, /* requests: {model} and {name, title, precision, layout, domain, certificates}: the model as C */
    ESP_FRAME_HELP = 8, /* PLAN's payload: search a part of it, whose NODES come next */
    /* worker -> daemon */
    ESP_FRAME_READY = 16, /* {pid, versions} once after start, and PONG */
    ESP_FRAME_INCUMBENT = 17, /* a verified plan */
    ESP_FRAME_BOUND = 18, /* {lower_bound} */
    ESP_FRAME_PROGRESS = 19, /* a job's progress */
    ESP_FRAME_MODEL = 20, /* a job has written a model blob: {sha256, name?, relu, metrics, ...} */
    ESP_FRAME_DONE = 21, /* the task's result */
    ESP_FRAME_ERROR = 22, /* {code, pointer, message}: the task failed; the worker lives */
    ESP_FRAME_CHECKPOINT = 23, /* a train job can be gone on from here, or was: {checkpoint, fraction, message} */
    ESP_FRAME_ANSWER = 24, /* bytes: to the task's next request */
    ESP_FRAME_REFUSED = 25, /* as ERROR, of the task's next request */
    ESP_FRAME_LEASE = 26, /* {seconds?}: a job's worker lives; given seconds, it may be silent for so long besides its lease, from now on */
    /* both ways, about a share of a plan's search; INCUMBENT and CANCEL go both ways too then */
    ESP_FRAME_SHARE = 32, /* {share?}: give some of your open nodes */
    ESP_FRAME_NODES = 33 /* bytes, not JSON: open nodes (lib/plan/share.h) */
} esp_frame_type;

typedef struct esp_frame_header {
    uint16_t type;
    uint64_t task;
    uint32_t length;
} esp_frame_header;

void esp_frame_put(esp_buf *out, esp_frame_type type, uint64_t task, const void *payload, uint32_t length);
/* Takes one frame off the front of `in` (from *pos on): 1 = got one (payload borrowed from `in`), 0 = not all there
 * yet, CORRUPT (negative) = not a frame. */
int esp_frame_next(const esp_buf *in, size_t *pos, esp_frame_header *ret_header, const char **ret_payload, esp_error *reterr);

/* Reads an ERROR or REFUSED; what cannot be read is an error of the worker's. */
void esp_frame_read_error(const char *payload, size_t len, esp_error *ret_error);

#endif
