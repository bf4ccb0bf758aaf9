/* SPDX-License-Identifier: Apache-2.0
 * Questions gathered into frames.
 *
 *     question -> line, of those that can go together -> bundle, with the pool -> answered, or back to the front of its line
 *
 * A line in which somebody waits has exactly one bundle in the pool's queue (`queued`). The bundle is empty until a worker takes it:
 * then it takes from the line what fits, and leaves another one queued for the rest.
 *
 * Everything is under one lock, but for replies. Whoever takes a question out of a line or a bundle under the lock replies to it
 * after the lock; a hang-up that finds it in neither leaves it alone. */
#include "ask.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "metrics.h"
#include "ontime.h"
#include "pool/pool.h"

#define ANSWER_WITHIN_NS (10 * ESP_NS_PER_S)
enum { SMALL_BYTES = 4 << 10, FRAME_BYTES = 64 << 10, WAITING_BYTES = 256 << 20 };

typedef struct line line;
typedef struct bundle bundle;

typedef struct asking {
    esp_asks *asks;
    esp_call *call;
    const char *text;
    size_t len;
    esp_buf kept; /* `text`, when it is not the call's */
    const char *content_type;
    int64_t arrived_ns, deadline_ns;
    bool tried; /* a worker died on it: goes alone */
    bool gone; /* its caller has hung up */
    line *line; /* where it waits, or NULL: */
    bundle *bundle; /* what it is under way with, or NULL: somebody replies */
    esp_error error; /* what somebody replies */
    struct asking *next;
} asking;

typedef struct queue {
    asking *head, **tail;
} queue;

struct line {
    esp_frame_type type;
    bool small;
    char model[ESP_HASH_HEX], candidate[ESP_HASH_HEX];
    queue waiting;
    bool queued;
    int bundles; /* that point here */
    struct line *next;
};

struct bundle {
    esp_asks *asks;
    line *line;
    uint64_t work;
    bool begun;
    queue askings; /* not answered yet, in the frame's order */
    int answered;
};

struct esp_asks {
    esp_server *server;
    pthread_mutex_t lock; /* all that follows, and lines and bundles */
    line *lines;
    size_t bytes; /* of all that wait or are under way */
};

esp_asks *esp_asks_create(esp_server *server) {
    esp_asks *asks = calloc(1, sizeof *asks);
    if (!asks) return NULL;
    asks->server = server;
    esp_ontime_lock_init(&asks->lock);
    return asks;
}

void esp_asks_free(esp_asks *asks) {
    if (!asks) return;
    pthread_mutex_destroy(&asks->lock);
    free(asks);
}

bool esp_ask_is_small(size_t len) {
    return len <= SMALL_BYTES;
}

/* ---- queues ---------------------------------------------------------------------------------------------------------- */

static void queue_init(queue *q) {
    q->head = NULL;
    q->tail = &q->head;
}

static void queue_put(queue *q, asking *a) {
    a->next = NULL;
    *q->tail = a;
    q->tail = &a->next;
}

static asking *queue_take(queue *q) {
    asking *a = q->head;
    if (!a) return NULL;
    q->head = a->next;
    if (!q->head) q->tail = &q->head;
    return a;
}

static void queue_remove(queue *q, const asking *a) {
    asking **at = &q->head;
    while (*at != a) at = &(*at)->next;
    *at = a->next;
    if (!*at) q->tail = at;
}

/* All of `front` goes before what is there. */
static void queue_prepend(queue *q, queue *front) {
    if (!front->head) return;
    *front->tail = q->head;
    if (!q->head) q->tail = front->tail;
    q->head = front->head;
    queue_init(front);
}

/* ---- replies: without the lock ---------------------------------------------------------------------------------------- */

static void asking_free(asking *a) {
    esp_buf_done(&a->kept);
    free(a);
}

/* After the reply: until it, a hang-up may look at the asking. */
static void refuse(asking *a) {
    esp_call_reply_error(a->call, &a->error);
    asking_free(a);
}

static void refuse_all(queue *q) {
    for (asking *a; (a = queue_take(q));) refuse(a);
}

static void answer(asking *a, const char *payload, size_t len) {
    esp_buf body = {0};
    esp_buf_put(&body, payload, len);
    esp_call_reply(a->call, 200, a->content_type, &body);
    asking_free(a);
}

/* ---- under the lock ---------------------------------------------------------------------------------------------------- */

/* Out of everything, to be refused. */
static void give_up(asking *a, const esp_error *error, queue *refused) {
    a->line = NULL;
    a->bundle = NULL;
    a->error = *error;
    a->asks->bytes -= a->len;
    queue_put(refused, a);
}

static void give_up_waiting(line *l, const esp_error *error, queue *refused) {
    for (asking *a; (a = queue_take(&l->waiting));) give_up(a, error, refused);
}

static line *find_line(esp_asks *asks, const esp_question *q, bool small) {
    line *l = asks->lines;
    while (l && (l->type != q->type || l->small != small || strcmp(l->model, q->model) != 0 || strcmp(l->candidate, q->candidate) != 0)) l = l->next;
    if (l) return l;
    l = calloc(1, sizeof *l);
    if (!l) return NULL;
    l->type = q->type;
    l->small = small;
    strcpy(l->model, q->model);
    strcpy(l->candidate, q->candidate);
    queue_init(&l->waiting);
    l->next = asks->lines;
    asks->lines = l;
    return l;
}

static void drop_idle_line(esp_asks *asks, line *l) {
    line **at = &asks->lines;
    if (l->waiting.head || l->bundles) return;
    while (*at != l) at = &(*at)->next;
    *at = l->next;
    free(l);
}

static const esp_work_ops ops;

static esp_code submit(esp_asks *asks, line *l, esp_error *reterr) {
    char digits[17] = {0};
    bundle *b = calloc(1, sizeof *b);
    if (!b) return esp_fail(reterr, ESP_NOMEM, "no memory for the request");
    memcpy(digits, l->model, 16);
    b->asks = asks;
    b->line = l;
    b->work = esp_pool_id(asks->server->pool);
    queue_init(&b->askings);
    const esp_work work = {
        .class = ESP_CLASS_ASK,
        .type = l->type,
        .brief = l->small,
        .arrived_ns = l->waiting.head->arrived_ns,
        .deadline_ns = l->waiting.head->deadline_ns,
        .affinity = strtoull(digits, NULL, 16) | 1,
        .ops = &ops,
        .user = b,
    };
    esp_code code = esp_pool_submit(asks->server->pool, b->work, &work, reterr);
    if (code) {
        free(b);
        return code;
    }
    l->bundles++;
    l->queued = true;
    return ESP_OK;
}

/* Whoever waits has a bundle to go with, or is refused. */
static void see_to(esp_asks *asks, line *l, queue *refused) {
    esp_error error = {0};
    if (l->waiting.head && !l->queued && submit(asks, l, &error)) give_up_waiting(l, &error, refused);
}

/* ---- a worker takes a bundle ------------------------------------------------------------------------------------------- */

/* Under the lock: what goes in one frame. */
static void fill(bundle *b) {
    size_t n = 0, bytes = 0, most = b->line->small ? (size_t)b->asks->server->config.gather : 1;
    for (asking *a = b->line->waiting.head; a && n < most; a = b->line->waiting.head) {
        bool alone = a->tried || (n && b->askings.head->tried);
        if (n && (alone || bytes + a->len > FRAME_BYTES)) break;
        a = queue_take(&b->line->waiting);
        a->line = NULL;
        a->bundle = b;
        queue_put(&b->askings, a);
        bytes += a->len;
        n++;
    }
    esp_metric_add(ESP_METRIC_ASK_FRAMES, 1);
}

static void put_model(esp_jsonw *w, const char *key, const esp_registry *registry, const char *sha256) {
    char path[4096];
    if (!*sha256) return;
    esp_blob_path(registry, sha256, path);
    esp_jsonw_object(w, key);
    esp_jsonw_string(w, "path", path);
    esp_jsonw_string(w, "sha256", sha256);
    esp_jsonw_object_end(w);
}

static void put_part(esp_buf *payload, const char *text, size_t len) {
    esp_buf_put_u32(payload, (uint32_t)len);
    esp_buf_put(payload, text, len);
}

static void on_begin(void *user, int64_t budget_ns, esp_buf *payload) {
    bundle *b = user;
    queue refused;
    esp_buf head = {0};
    (void)budget_ns;
    queue_init(&refused);
    pthread_mutex_lock(&b->asks->lock);
    b->begun = true;
    b->line->queued = false;
    fill(b);
    see_to(b->asks, b->line, &refused);
    pthread_mutex_unlock(&b->asks->lock);
    refuse_all(&refused);
    esp_jsonw w = esp_jsonw_on(&head);
    esp_jsonw_object(&w, NULL);
    put_model(&w, "model", b->asks->server->registry, b->line->model);
    put_model(&w, "candidate", b->asks->server->registry, b->line->candidate);
    esp_jsonw_object_end(&w);
    payload->failed |= head.failed;
    put_part(payload, head.data, head.len);
    for (const asking *a = b->askings.head; a; a = a->next) put_part(payload, a->text, a->len);
    esp_buf_done(&head);
}

/* ---- what comes back ---------------------------------------------------------------------------------------------------- */

static asking *take_answered(bundle *b) {
    pthread_mutex_lock(&b->asks->lock);
    asking *a = queue_take(&b->askings);
    if (a) {
        a->bundle = NULL;
        b->asks->bytes -= a->len;
        b->answered++;
        esp_metric_add(ESP_METRIC_ASKS, 1);
    }
    pthread_mutex_unlock(&b->asks->lock);
    return a;
}

static void on_frame(void *user, esp_frame_type type, const char *payload, size_t len) {
    if (type != ESP_FRAME_ANSWER && type != ESP_FRAME_REFUSED) return;
    asking *a = take_answered(user);
    if (!a) return;
    if (type == ESP_FRAME_ANSWER) {
        answer(a, payload, len);
        return;
    }
    esp_frame_read_error(payload, len, &a->error);
    refuse(a);
}

/* Under the lock: once more, if somebody has the time to wait for it and it has not failed twice. */
static void again(asking *a, const bundle *b, const esp_outcome *outcome, queue *back, queue *refused) {
    esp_error error = {0};
    bool late = a->deadline_ns <= esp_clock_now_ns(), lost = b->begun && outcome->end != ESP_END_DONE;
    if (a->gone)
        esp_fail(&error, ESP_CANCELLED, "the client hung up");
    else if (late)
        esp_fail(&error, ESP_DEADLINE, "no worker answered in time");
    else if (lost && a->tried && outcome->error)
        error = *outcome->error;
    else if (lost && a->tried)
        esp_fail(&error, ESP_DEADLINE, "no worker answered in time");
    if (error.code) {
        give_up(a, &error, refused);
        return;
    }
    a->tried |= lost;
    a->bundle = NULL;
    a->line = b->line;
    queue_put(back, a);
}

/* Under the lock: what the worker has not answered, and when none took the bundle, whoever waits. */
static void settle(bundle *b, const esp_outcome *outcome, queue *refused) {
    esp_error error = {0};
    queue back;
    queue_init(&back);
    if (!b->begun) {
        b->line->queued = false;
        queue_prepend(&b->askings, &b->line->waiting);
    }
    switch (outcome->end) {
    case ESP_END_ERROR: error = *outcome->error; break;
    case ESP_END_CANCELLED: esp_fail(&error, ESP_CANCELLED, "cancelled"); break;
    case ESP_END_DONE:
        if (!b->answered) esp_fail(&error, ESP_INTERNAL, "the worker gave no answer");
        break;
    case ESP_END_EXPIRED:
    case ESP_END_LOST: break;
    }
    for (asking *a; (a = queue_take(&b->askings));) {
        if (error.code)
            give_up(a, &error, refused);
        else
            again(a, b, outcome, &back, refused);
    }
    queue_prepend(&b->line->waiting, &back);
}

static void on_end(void *user, const esp_outcome *outcome) {
    bundle *b = user;
    queue refused;
    queue_init(&refused);
    pthread_mutex_lock(&b->asks->lock);
    settle(b, outcome, &refused);
    see_to(b->asks, b->line, &refused);
    b->line->bundles--;
    drop_idle_line(b->asks, b->line);
    pthread_mutex_unlock(&b->asks->lock);
    refuse_all(&refused);
    free(b);
}

static const esp_work_ops ops = {.begin = on_begin, .frame = on_frame, .end = on_end};

/* ---- a caller comes, and goes ------------------------------------------------------------------------------------------- */

static bool all_gone(const bundle *b) {
    const asking *a = b->askings.head;
    while (a && a->gone) a = a->next;
    return !a;
}

static void on_hangup(void *user) {
    asking *a = user;
    esp_asks *asks = a->asks;
    queue refused;
    esp_error error = {0};
    esp_fail(&error, ESP_CANCELLED, "the client hung up");
    queue_init(&refused);
    pthread_mutex_lock(&asks->lock);
    a->gone = true;
    if (a->line) {
        queue_remove(&a->line->waiting, a);
        give_up(a, &error, &refused);
    } else if (a->bundle && all_gone(a->bundle)) {
        esp_pool_cancel(asks->server->pool, a->bundle->work);
    }
    pthread_mutex_unlock(&asks->lock);
    refuse_all(&refused);
}

/* Under the lock: into its line, or an error. */
static esp_code enqueue(asking *a, const esp_question *question, esp_error *reterr) {
    esp_asks *asks = a->asks;
    if (asks->bytes + a->len > WAITING_BYTES) return esp_fail(reterr, ESP_BUSY, "too much waits for a worker");
    bool small = question->type != ESP_FRAME_ARTIFACT && esp_ask_is_small(a->len);
    line *l = find_line(asks, question, small);
    if (!l) return esp_fail(reterr, ESP_NOMEM, "no memory for the request");
    queue_put(&l->waiting, a);
    esp_code code = l->queued ? ESP_OK : submit(asks, l, reterr);
    if (code) {
        queue_remove(&l->waiting, a);
        drop_idle_line(asks, l);
        return code;
    }
    a->line = l;
    asks->bytes += a->len;
    return ESP_OK;
}

static asking *asking_create(esp_server *server, esp_call *call, const esp_question *question) {
    asking *a = calloc(1, sizeof *a);
    if (!a) return NULL;
    a->asks = server->asks;
    a->call = call;
    a->text = question->text;
    a->len = question->len;
    a->content_type = question->content_type;
    a->arrived_ns = esp_call_arrived_ns(call);
    a->deadline_ns = a->arrived_ns + ANSWER_WITHIN_NS;
    if (question->take_text) {
        a->kept = *question->take_text;
        *question->take_text = (esp_buf){0};
        a->text = a->kept.data;
        a->len = a->kept.len;
    }
    return a;
}

void esp_ask(esp_server *server, esp_call *call, const esp_question *question) {
    esp_error error = {0};
    if (atomic_load(&server->draining)) esp_fail(&error, ESP_DRAINING, "the service is shutting down");
    asking *a = error.code ? NULL : asking_create(server, call, question);
    if (!a && !error.code) esp_fail(&error, ESP_NOMEM, "no memory for the request");
    if (!a) {
        esp_call_reply_error(call, &error);
        return;
    }
    pthread_mutex_lock(&server->asks->lock);
    esp_call_keep_briefly(call, on_hangup, a);
    esp_code code = enqueue(a, question, &a->error);
    pthread_mutex_unlock(&server->asks->lock);
    if (code) refuse(a);
}
