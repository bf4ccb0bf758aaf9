/* SPDX-License-Identifier: Apache-2.0
 * The ledger (ledger.h). */
#include "support/ledger.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/hash.h"
#include "base/rng.h"
#include "support/wire.h"

enum { ROOM = 4 << 20, TAGS = 4, BATCH_LINES = 3, JOB_WAIT_S = 300 };

const char *const ledger_names[LEDGER_N] = {
#define X(symbol, share, name) name,
    LEDGER_OPS
#undef X
};

typedef struct entry {
    char id[48], sha256[ESP_HASH_HEX];
    int version;
    bool gone;
} entry;
typedef struct entries {
    entry *items;
    size_t n, room;
} entries;

struct ledger {
    char name[16], text[ROOM], complaint[600];
    esp_rng rng;
    int fd, port;
    unsigned long keys;
    long acknowledged[LEDGER_N];
    /* what the service holds */
    entries datasets, models, tasks, jobs;
    long episodes;
    int alias; /* version it points at, 0: none */
    bool tags[TAGS];
    /* the request under way; `op` LEDGER_N: none */
    ledger_op op;
    char path[300], headers[200];
    const char *method;
    esp_buf body;
    size_t target; /* of what it acts on */
};

static void complain(ledger *l, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void complain(ledger *l, const char *format, ...) {
    va_list args;
    if (*l->complaint) return; /* the first is what matters */
    va_start(args, format);
    int n = snprintf(l->complaint, sizeof l->complaint, "%s: ", l->name);
    vsnprintf(l->complaint + n, sizeof l->complaint - (size_t)n, format, args);
    va_end(args);
}

ledger *ledger_create(int number, uint64_t seed) {
    ledger *l = calloc(1, sizeof *l);
    if (!l) abort();
    snprintf(l->name, sizeof l->name, "w%d", number);
    esp_rng_init(&l->rng, seed, (uint64_t)number);
    l->op = LEDGER_N;
    l->fd = -1;
    return l;
}

void ledger_free(ledger *l) {
    free(l->datasets.items);
    free(l->models.items);
    free(l->tasks.items);
    free(l->jobs.items);
    esp_buf_done(&l->body);
    free(l);
}

const char *ledger_complaint(const ledger *l) {
    return l->complaint;
}

long ledger_acknowledged(const ledger *l, ledger_op op) {
    return l->acknowledged[op];
}

/* ---- requests ------------------------------------------------------------------------------------------------------- */

static size_t draw(ledger *l, size_t n) {
    return esp_rng_below(&l->rng, n);
}

static void put_trajectories(ledger *l, size_t n) {
    for (size_t i = 0; i < n; i++) {
        esp_buf_puts(&l->body, "{\"y\":[[0,0]");
        for (int t = 0; t < 6; t++) esp_buf_printf(&l->body, ",[%.6f,%.6f]", esp_rng_uniform(&l->rng), esp_rng_uniform(&l->rng));
        esp_buf_puts(&l->body, "],\"u\":[[1],[0],[1],[0],[1],[0]]}\n");
    }
}

static void put_model(ledger *l) {
    esp_buf_puts(&l->body, "{\"layers\":[{\"w\":[");
    for (int i = 0; i < 2; i++) esp_buf_printf(&l->body, "%s[%.9f,%.9f,0.5]", i ? "," : "", esp_rng_uniform(&l->rng), esp_rng_uniform(&l->rng));
    esp_buf_puts(&l->body, "],\"b\":[0,0],\"activation\":\"relu\"},{\"w\":[[1,0],[0,1]],\"b\":[0,0],\"activation\":\"identity\"}],\"nu\":1}");
}

static void put_job(ledger *l) {
    if (draw(l, 4)) {
        esp_buf_printf(&l->body, "{\"kind\":\"evaluate\",\"priority\":%zu,\"spec\":{\"model\":\"%s/1\",\"dataset\":\"%s/1\",\"horizon\":%zu}}",
                       draw(l, 3), l->name, l->name, 1 + draw(l, 4));
    } else {
        esp_buf_printf(&l->body,
                       "{\"kind\":\"train\",\"spec\":{\"dataset\":\"%s/1\",\"name\":\"%s-trained\",\"model\":{\"type\":\"mlp\",\"hidden\":[6]},"
                       "\"epochs\":30,\"batch\":16,\"seed\":%zu}}",
                       l->name, l->name, draw(l, 1000000));
    }
}

static void put_task(ledger *l) {
    esp_buf_printf(
        &l->body,
        "{\"name\":\"%s\",\"model\":\"%s/1\",\"horizon\":%zu,\"cost\":{\"stage\":[{\"on\":\"y\",\"index\":[0],\"weight\":%.9f,\"norm\":\"l1\","
        "\"target\":\"goal\"}],\"terminal\":[]},\"input\":{\"lower\":[-1],\"upper\":[1],\"safe\":[0]}}",
        l->name, l->name, 2 + draw(l, 3), esp_rng_uniform(&l->rng));
}

/* A model that may be deleted: not the first, which others refer to, and not the alias's. */
static bool find_deletable(ledger *l) {
    if (l->models.n < 2) return false;
    l->target = 1 + draw(l, l->models.n - 1);
    const entry *e = &l->models.items[l->target];
    return !e->gone && e->version != l->alias;
}

/* A creation: POST, with a key under which it may be sent again. */
static void post(ledger *l, const char *type, const char *format, ...) __attribute__((format(printf, 3, 4)));
static void post(ledger *l, const char *type, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(l->path, sizeof l->path, format, args);
    va_end(args);
    l->method = "POST";
    snprintf(l->headers, sizeof l->headers, "Content-Type: %s\r\nIdempotency-Key: %s-%lu\r\n", type, l->name, l->keys++);
}

static void act(ledger *l, const char *method, const char *format, ...) __attribute__((format(printf, 3, 4)));
static void act(ledger *l, const char *method, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(l->path, sizeof l->path, format, args);
    va_end(args);
    l->method = method;
    l->headers[0] = '\0';
}

/* False: there is nothing that this could be done to yet. */
static bool make_request(ledger *l, ledger_op op) {
    static const char *const lists[] = {"/v1/models?limit=50", "/v1/jobs?limit=50&sort=-id", "/v1/bounds", "/v1/datasets?sort=name", "/readyz"};
    const char *json = "application/json", *lines = "application/x-ndjson";
    bool ready = l->models.n && l->datasets.n && l->tasks.n;
    l->body.len = 0;
    switch (op) {
    case LEDGER_DATASET:
    case LEDGER_UPLOAD:
        put_trajectories(l, op == LEDGER_UPLOAD ? 3000 : 12);
        post(l, lines, "/v1/datasets?name=%s", l->name);
        return true;
    case LEDGER_MODEL:
        put_model(l);
        post(l, json, "/v1/models?name=%s&kind=dynamics", l->name);
        return true;
    case LEDGER_TASK:
        put_task(l);
        post(l, json, "/v1/tasks");
        return l->models.n > 0;
    case LEDGER_EPISODE:
        esp_buf_printf(&l->body, "{\"model\":\"%s/1\",\"task\":\"%s/1\",\"robot\":\"%s\",\"steps\":5,\"cost\":1.5,\"success\":true}", l->name,
                       l->name, l->name);
        post(l, json, "/v1/episodes");
        return ready;
    case LEDGER_JOB:
        put_job(l);
        post(l, json, "/v1/jobs");
        return ready;
    case LEDGER_BATCH:
        for (int i = 0; i < BATCH_LINES; i++) {
            put_job(l);
            esp_buf_puts(&l->body, "\n");
        }
        post(l, lines, "/v1/jobs/batch");
        return ready;
    case LEDGER_CANCEL:
        if (l->jobs.n) act(l, "DELETE", "/v1/jobs/%s", l->jobs.items[l->jobs.n - 1].id);
        return l->jobs.n > 0;
    case LEDGER_ALIAS:
        if (!l->models.n) return false;
        l->target = draw(l, l->models.n);
        esp_buf_printf(&l->body, "{\"version\":%d}", l->models.items[l->target].version);
        act(l, "PUT", "/v1/models/%s/aliases/live", l->name);
        return !l->models.items[l->target].gone;
    case LEDGER_TAG:
    case LEDGER_UNTAG:
        l->target = draw(l, TAGS);
        act(l, op == LEDGER_TAG ? "PUT" : "DELETE", "/v1/models/%s/1/tags/t%zu", l->name, l->target);
        return l->models.n > 0;
    case LEDGER_DELETE:
        if (!find_deletable(l)) return false;
        act(l, "DELETE", "/v1/models/%s", l->models.items[l->target].id);
        return true;
    case LEDGER_PLAN:
        esp_buf_printf(&l->body, "{\"task\":\"%s\",\"y\":[[0.1,0.2]],\"goal\":[0.5],\"deadline_ms\":500}", l->name);
        act(l, "POST", "/v1/plans");
        return ready;
    case LEDGER_READ: act(l, "GET", "%s", lists[draw(l, sizeof lists / sizeof *lists)]); return true;
    case LEDGER_N: break;
    }
    return false;
}

static int send_request(ledger *l, const char **ret_body) {
    const wire_request request = {l->method, l->path, l->headers, l->body.len ? l->body.data : NULL, l->body.len};
    return wire_call(l->fd, &request, l->text, sizeof l->text, ret_body);
}

static int get(ledger *l, const char **ret_body, const char *format, ...) __attribute__((format(printf, 3, 4)));
static int get(ledger *l, const char **ret_body, const char *format, ...) {
    char path[400];
    va_list args;
    va_start(args, format);
    vsnprintf(path, sizeof path, format, args);
    va_end(args);
    const wire_request request = {"GET", path, NULL, NULL, 0};
    if (l->fd < 0) l->fd = wire_dial(l->port);
    int status = wire_call(l->fd, &request, l->text, sizeof l->text, ret_body);
    if (!status) complain(l, "GET %s broke", path);
    return status;
}

/* ---- acknowledgements ----------------------------------------------------------------------------------------------- */

static entry *add(ledger *l, entries *list, const char *body) {
    entry e = {0};
    const char *id = strstr(body, "\"id\":\""), *version = strstr(body, "\"version\":");
    if (!id || sscanf(id + 6, "%47[^\"]", e.id) != 1) complain(l, "no id in %.200s", body);
    if (version) e.version = atoi(version + 10);
    if (list->n == list->room) {
        list->room = 2 * list->room + 64;
        list->items = realloc(list->items, list->room * sizeof e);
        if (!list->items) abort();
    }
    list->items[list->n] = e;
    return &list->items[list->n++];
}

static void add_version(ledger *l, entries *list, const char *body) {
    int before = list->n ? list->items[list->n - 1].version : 0;
    const entry *e = add(l, list, body);
    if (e->version != before + 1) complain(l, "%s is version %d, after %d", e->id, e->version, before);
}

/* A reply to the request under way: what the service holds from now on. */
static void acknowledge(ledger *l, int status, const char *body) {
    static const int good[LEDGER_N] = {201, 201, 201, 201, 201, 202, 200, 200, 200, 200, 200, 204, 200, 200};
    ledger_op op = l->op;
    bool cancelled = op == LEDGER_CANCEL && (status == 202 || status == 409); /* stopping, ended already */
    if (status != good[op] && !cancelled) {
        complain(l, "%s %s: %d %.300s", l->method, l->path, status, body);
        return;
    }
    l->op = LEDGER_N;
    l->acknowledged[op]++;
    if (op == LEDGER_DATASET || op == LEDGER_UPLOAD) {
        add_version(l, &l->datasets, body);
        esp_hash_bytes(l->body.data, l->body.len, l->datasets.items[l->datasets.n - 1].sha256);
    }
    if (op == LEDGER_MODEL) add_version(l, &l->models, body);
    if (op == LEDGER_TASK) add_version(l, &l->tasks, body);
    if (op == LEDGER_EPISODE) l->episodes++;
    if (op == LEDGER_JOB) add(l, &l->jobs, body);
    for (int i = 0; op == LEDGER_BATCH && i < BATCH_LINES; i++) {
        add(l, &l->jobs, body);
        body = strchr(body, '\n') + 1;
    }
    if (op == LEDGER_ALIAS) l->alias = l->models.items[l->target].version;
    if (op == LEDGER_TAG || op == LEDGER_UNTAG) l->tags[l->target] = op == LEDGER_TAG;
    if (op == LEDGER_DELETE) l->models.items[l->target].gone = true;
}

static ledger_op choose(ledger *l) {
    static const int shares[LEDGER_N] = {
#define X(symbol, share, name) share,
        LEDGER_OPS
#undef X
    };
    int sum = 0, op = 0;
    for (int i = 0; i < LEDGER_N; i++) sum += shares[i];
    for (int at = (int)draw(l, (size_t)sum); at >= shares[op]; op++) at -= shares[op];
    return (ledger_op)op;
}

void ledger_load(ledger *l, int port) {
    const char *body = "";
    l->fd = wire_dial(port);
    while (l->fd >= 0 && !*l->complaint) {
        ledger_op op = choose(l);
        if (!make_request(l, op)) continue;
        l->op = op;
        int status = send_request(l, &body);
        if (!status) break;
        acknowledge(l, status, body);
    }
    if (l->fd >= 0) close(l->fd);
    l->fd = -1;
}

/* ---- after a restart ------------------------------------------------------------------------------------------------ */

static int read_alias(ledger *l) {
    const char *body = "";
    int status = get(l, &body, "/v1/models/%s/aliases/live", l->name);
    if (status != 200 && status != 404) complain(l, "the alias: %d %.200s", status, body);
    const char *version = status == 200 ? strstr(body, "\"version\":") : NULL;
    return version ? atoi(version + 10) : 0;
}

static void read_tags(ledger *l, bool ret[TAGS]) {
    const char *body = "";
    char quoted[16];
    if (get(l, &body, "/v1/models/%s/1/tags", l->name) != 200) complain(l, "the tags: %.200s", body);
    for (int i = 0; i < TAGS; i++) {
        snprintf(quoted, sizeof quoted, "\"t%d\"", i);
        ret[i] = strstr(body, quoted) != NULL;
    }
}

static void settle_change(ledger *l) {
    const char *body = "";
    bool tags[TAGS];
    if (l->op == LEDGER_ALIAS && read_alias(l) == l->models.items[l->target].version) l->alias = l->models.items[l->target].version;
    if (l->op == LEDGER_DELETE) l->models.items[l->target].gone = get(l, &body, "/v1/models/%s", l->models.items[l->target].id) == 404;
    if (l->op == LEDGER_TAG || l->op == LEDGER_UNTAG) {
        read_tags(l, tags);
        l->tags[l->target] = tags[l->target];
    }
}

void ledger_settle(ledger *l, int port) {
    const char *body = "";
    l->port = port;
    l->fd = wire_dial(port);
    if (l->op != LEDGER_N && strstr(l->headers, "Idempotency-Key")) {
        int status = send_request(l, &body);
        if (!status)
            complain(l, "%s %s broke again", l->method, l->path);
        else
            acknowledge(l, status, body);
    } else if (l->op != LEDGER_N) {
        settle_change(l);
    }
    l->op = LEDGER_N;
}

static void verify_dataset(ledger *l, const entry *e) {
    char sha256[ESP_HASH_HEX] = "";
    const char *body = "";
    int status = get(l, &body, "/v1/datasets/%s/data", e->id);
    if (status == 200) esp_hash_bytes(body, strlen(body), sha256);
    if (strcmp(sha256, e->sha256) != 0) complain(l, "dataset %s: %d, its bytes are of %s, not %s", e->id, status, sha256, e->sha256);
}

static void verify_thing(ledger *l, const char *what, const entry *e) {
    const char *body = "";
    int status = get(l, &body, "/v1/%s/%s", what, e->id);
    if (status != (e->gone ? 404 : 200)) complain(l, "%s %s, %s: %d %.200s", what, e->id, e->gone ? "deleted" : "kept", status, body);
}

static void verify_list(ledger *l, const char *what, const entries *list, long some) {
    for (size_t i = 0; i < list->n && (some < 0 || (long)i < some); i++) {
        const entry *e = &list->items[some < 0 ? i : draw(l, list->n)];
        if (list == &l->datasets)
            verify_dataset(l, e);
        else
            verify_thing(l, what, e);
    }
}

void ledger_verify(ledger *l, int port, long some) {
    bool tags[TAGS];
    l->port = port;
    verify_list(l, "datasets", &l->datasets, some);
    verify_list(l, "models", &l->models, some);
    verify_list(l, "tasks", &l->tasks, some);
    verify_list(l, "jobs", &l->jobs, some);
    int alias = read_alias(l);
    if (alias != l->alias) complain(l, "the alias is at version %d, not %d", alias, l->alias);
    if (!l->models.n) return;
    read_tags(l, tags);
    for (int i = 0; i < TAGS; i++) {
        if (tags[i] != l->tags[i]) complain(l, "the tag t%d is %s", i, tags[i] ? "there" : "not there");
    }
}

/* ---- at the end ----------------------------------------------------------------------------------------------------- */

static const char *job_state(ledger *l, const char *id, char ret[16]) {
    const char *body = "";
    ret[0] = '\0';
    if (get(l, &body, "/v1/jobs/%s", id) == 200) sscanf(strstr(body, "\"state\":\"") + 9, "%15[a-z_]", ret);
    return ret;
}

/* Its events: queued first, as many starts as attempts, one end, which is the last. */
static void check_events(ledger *l, const char *id, const char *state) {
    const char *body = "", *p;
    char ended[40];
    int starts = 0, ends = 0, attempt = 0;
    snprintf(ended, sizeof ended, "\"state\":\"%s\"", state);
    if (get(l, &body, "/v1/jobs/%s", id) == 200) attempt = atoi(strstr(body, "\"attempt\":") + 10);
    int fd = l->fd;
    l->fd = wire_dial(l->port); /* the stream ends with its connection */
    char headers[] = "Connection: close\r\n", path[100];
    snprintf(path, sizeof path, "/v1/jobs/%s/events", id);
    const wire_request request = {"GET", path, headers, NULL, 0};
    if (wire_call(l->fd, &request, l->text, sizeof l->text, &body) != 200) complain(l, "no events of %s", id);
    close(l->fd);
    l->fd = fd;
    for (p = body; (p = strstr(p, "\"state\":\"running\"")); p++) starts++;
    for (p = body; (p = strstr(p, ended)); p++) ends++;
    if (!strstr(body, "id: 1\nevent: state\ndata: {\"state\":\"queued\"") || starts != attempt || ends != 1)
        complain(l, "job %s, %s: %d starts of %d attempts, %d ends in %.300s", id, state, starts, attempt, ends, body);
}

void ledger_wait_jobs(ledger *l, int port) {
    char state[16] = "";
    l->port = port;
    if (l->fd >= 0) close(l->fd); /* others' jobs may have taken longer than an idle connection is kept */
    l->fd = -1;
    for (size_t i = 0; i < l->jobs.n; i++) {
        const char *id = l->jobs.items[i].id;
        for (int turn = 0; turn < JOB_WAIT_S * 50 && !*l->complaint; turn++) {
            job_state(l, id, state);
            if (strcmp(state, "queued") != 0 && strcmp(state, "running") != 0 && strcmp(state, "cancelling") != 0) break;
            usleep(20000);
        }
        if (strcmp(state, "succeeded") != 0 && strcmp(state, "cancelled") != 0) complain(l, "job %s is %s: %.500s", id, state, l->text);
        check_events(l, id, state);
    }
}

static long count(ledger *l, const char *path) {
    char at[1000], next[600];
    const char *body = "";
    long n = 0;
    snprintf(at, sizeof at, "%s&limit=1000&sort=id", path);
    for (bool more = true; more && get(l, &body, "%s", at) == 200;) {
        for (const char *p = body; (p = strstr(p, "{\"id\":\"")); p++) n++;
        const char *found = strstr(body, "\"next\":\"");
        more = found && sscanf(found + 8, "%599[^\"]", next) == 1;
        if (more) snprintf(at, sizeof at, "%s&limit=1000&sort=id&cursor=%s", path, next);
    }
    return n;
}

static void expect_count(ledger *l, const char *what, long is, long wanted) {
    if (is != wanted) complain(l, "%ld %s, not %ld", is, what, wanted);
}

void ledger_count(ledger *l, int port) {
    char path[100];
    const char *body = "";
    long kept = 0, episodes = 0;
    l->port = port;
    for (size_t i = 0; i < l->models.n; i++) kept += !l->models.items[i].gone;
    snprintf(path, sizeof path, "/v1/datasets?name=%s", l->name);
    expect_count(l, "datasets", count(l, path), (long)l->datasets.n);
    snprintf(path, sizeof path, "/v1/models?name=%s", l->name);
    expect_count(l, "models", count(l, path), kept);
    snprintf(path, sizeof path, "/v1/tasks?name=%s", l->name);
    expect_count(l, "tasks", count(l, path), (long)l->tasks.n);
    if (get(l, &body, "/v1/episodes?model_name=%s", l->name) != 200) complain(l, "the episodes: %.200s", body);
    for (const char *p = body; (p = strstr(p, "\"episodes\":")); p++) episodes += atol(p + 11);
    expect_count(l, "episodes", episodes, l->episodes);
}
