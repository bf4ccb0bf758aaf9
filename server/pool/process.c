/* SPDX-License-Identifier: Apache-2.0
 * Worker processes: started, fed, read, buried.
 *
 * Every call here returns at once: sockets and pipes do not block, a death is noticed by its pidfd before it is waited
 * for, and starting a process is the spawner's (spawn.c). */
#include "pool/supervisor.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/json.h"
#include "log.h"
#include "metrics.h"

#define START_NS     (30 * ESP_NS_PER_S)
#define PING_NS      (1 * ESP_NS_PER_S)
#define PONG_NS      (3 * ESP_NS_PER_S)
#define DYING_NS     (1 * ESP_NS_PER_S)
#define LATE_NS      (500 * ESP_NS_PER_MS)
#define LONG_LIFE_NS (10 * ESP_NS_PER_S) /* a worker that lived this long did not die of starting */
enum { READ_CHUNK = 1 << 16, READ_TURNS = 8, BACKOFF_MS = 100, BACKOFF_MAX_MS = 10000 };

static const char *class_name(const process *p) {
    return p->class == ESP_CLASS_PLAN ? "plan" : "batch";
}

static void watch(esp_pool *pool, const process *p, int fd, source kind, uint32_t events, int how) {
    struct epoll_event event = {.events = events, .data.u64 = (uint64_t)kind << 32 | (uint64_t)p->index};
    if (epoll_ctl(pool->epoll, how, fd, &event)) esp_log(ESP_LOG_ERROR, "epoll", "errno=%d", errno);
}

/* Taken out of the epoll by hand: a child that is just being started holds a copy of every descriptor until its exec, so that
 * closing ours would leave the watching, and its events, in place. */
void process_close_fd(esp_pool *pool, int *fd) {
    if (*fd < 0) return;
    epoll_ctl(pool->epoll, EPOLL_CTL_DEL, *fd, NULL); /* ENOENT: taken out before */
    close(*fd);
    *fd = -1;
}

/* The first try again is at once, then after 0.1 s, 0.2 s, ... 10 s. */
static int64_t backoff_ns(int failures) {
    if (failures < 2) return 0;
    int shift = failures - 2 < 7 ? failures - 2 : 7;
    int ms = BACKOFF_MS << shift;
    return (ms < BACKOFF_MAX_MS ? ms : BACKOFF_MAX_MS) * ESP_NS_PER_MS;
}

static void set_down(esp_pool *pool, process *p) {
    p->state = PROCESS_DOWN;
    p->timer_ns = pool->stopping ? ESP_NEVER : esp_clock_now_ns() + backoff_ns(p->failures);
}

static void tell_starter(esp_pool *pool, const char *words) {
    pthread_mutex_lock(&pool->lock);
    if (words) snprintf(pool->start_words, sizeof pool->start_words, "%s", words);
    pthread_cond_broadcast(&pool->started);
    pthread_mutex_unlock(&pool->lock);
}

static void spawn_failed(esp_pool *pool, process *p, const char *what, int number) {
    char words[200];
    snprintf(words, sizeof words, "%s: %s", what, strerror(number));
    esp_log(ESP_LOG_ERROR, "worker_spawn", "class=%s error=\"%s\"", class_name(p), words);
    p->failures++;
    set_down(pool, p);
    atomic_fetch_add(&pool->start_deaths, 1);
    tell_starter(pool, words);
}

void process_start(esp_pool *pool, process *p) {
    p->state = PROCESS_SPAWNING;
    p->timer_ns = ESP_NEVER;
    spawn_ask(pool, p);
}

void process_adopt(esp_pool *pool, process *p) {
    spawned made;
    if (p->state != PROCESS_SPAWNING || !spawn_take(pool, p, &made)) return;
    if (!made.pid) {
        spawn_failed(pool, p, made.what, made.number);
        return;
    }
    p->pid = made.pid;
    p->pidfd = made.pidfd;
    p->sock = made.sock;
    p->words_fd = made.words_fd;
    p->state = PROCESS_STARTING;
    p->spawned_ns = esp_clock_now_ns();
    p->timer_ns = p->spawned_ns + START_NS;
    p->n_words = 0;
    p->out_pos = 0;
    p->task = p->affinity = 0;
    p->want_write = p->pinged = p->eof = p->called_off = false;
    p->doomed = NULL;
    esp_buf_clear(&p->in);
    esp_buf_clear(&p->out);
    watch(pool, p, p->sock, SOURCE_SOCKET, EPOLLIN, EPOLL_CTL_ADD);
    watch(pool, p, p->pidfd, SOURCE_DEATH, EPOLLIN, EPOLL_CTL_ADD);
    watch(pool, p, p->words_fd, SOURCE_WORDS, EPOLLIN, EPOLL_CTL_ADD);
    esp_log(ESP_LOG_DEBUG, "worker_start", "class=%s pid=%d", class_name(p), (int)p->pid);
}

/* ---- frames out ---- */

void process_kill(process *p, const char *why) {
    if (!p->pid || p->doomed) return;
    esp_log(ESP_LOG_DEBUG, "worker_kill", "class=%s pid=%d reason=\"%s\"", class_name(p), (int)p->pid, why);
    p->doomed = why;
    kill(p->pid, SIGKILL);
}

/* Writes what the socket takes; the rest waits for it to become writable. */
static void flush(esp_pool *pool, process *p) {
    if (p->sock < 0 || p->doomed || p->eof) return;
    while (p->out_pos < p->out.len) {
        ssize_t n = send(p->sock, p->out.data + p->out_pos, p->out.len - p->out_pos, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) break; /* EAGAIN; or the worker is gone, which its pidfd tells */
        p->out_pos += (size_t)n;
    }
    if (p->out_pos == p->out.len) {
        esp_buf_clear(&p->out);
        p->out_pos = 0;
    }
    bool want = p->out.len > 0;
    if (want != p->want_write) watch(pool, p, p->sock, SOURCE_SOCKET, want ? EPOLLIN | EPOLLOUT : EPOLLIN, EPOLL_CTL_MOD);
    p->want_write = want;
}

static void send_frame(esp_pool *pool, process *p, esp_frame_type type, const esp_buf *payload) {
    if (payload && (payload->failed || payload->len > ESP_FRAME_MAX)) {
        process_kill(p, "no memory for a frame");
        return;
    }
    process_send(pool, p, type, p->task, payload ? payload->data : "{}", payload ? payload->len : 2);
}

void process_send(esp_pool *pool, process *p, esp_frame_type type, uint64_t task, const char *payload, size_t len) {
    esp_frame_put(&p->out, type, task, payload, (uint32_t)len);
    if (p->out.failed)
        process_kill(p, "no memory for a frame");
    else
        flush(pool, p);
}

/* A sign of life of a worker that has a job, or helps with one. */
static void extend_lease(const esp_pool *pool, process *p) {
    const item *i = p->item ? p->item : p->helps;
    int64_t now = esp_clock_now_ns(), from = p->silent_until_ns > now ? p->silent_until_ns : now;
    p->lease_ns = i && i->work.class == ESP_CLASS_BATCH ? from + pool->config.job_lease_s * ESP_NS_PER_S : ESP_NEVER;
}

/* When a worker at work is to be looked at. */
static int64_t next_look(const process *p, int64_t now) {
    int64_t share_ns = p->item && p->item->share_from_ns > now ? p->item->share_from_ns : ESP_NEVER;
    return share_ns < p->lease_ns ? share_ns : p->lease_ns;
}

static void give(esp_pool *pool, process *p, item *i, esp_frame_type type, uint64_t task) {
    assert(p->state == PROCESS_IDLE && !p->item && !p->helps);
    int64_t now = esp_clock_now_ns();
    p->state = PROCESS_BUSY;
    p->timer_ns = p->lease_ns = ESP_NEVER;
    p->silent_until_ns = 0;
    p->task = task;
    p->affinity = i->work.affinity;
    esp_buf_clear(&pool->payload);
    i->work.ops->begin(i->work.user, i->work.deadline_ns == ESP_NEVER ? ESP_NEVER : i->work.deadline_ns - now, &pool->payload);
    send_frame(pool, p, type, &pool->payload);
    if (pool->payload.failed) esp_buf_done(&pool->payload);
}

void process_run(esp_pool *pool, process *p, item *i) {
    give(pool, p, i, i->work.type, i->id);
    p->item = i;
    i->process = p;
    i->share_from_ns = i->work.shared ? esp_clock_now_ns() + pool->config.share_after_ms * ESP_NS_PER_MS : ESP_NEVER;
    extend_lease(pool, p);
    p->timer_ns = next_look(p, esp_clock_now_ns());
}

void process_help(esp_pool *pool, process *p, item *i, uint64_t share) {
    give(pool, p, i, ESP_FRAME_HELP, share);
    p->helps = i;
    extend_lease(pool, p);
    p->timer_ns = next_look(p, esp_clock_now_ns());
}

void process_stop_task(esp_pool *pool, process *p, int64_t grace_ns) {
    if (p->state != PROCESS_BUSY) return;
    p->state = PROCESS_STOPPING;
    p->timer_ns = esp_clock_now_ns() + grace_ns;
    send_frame(pool, p, ESP_FRAME_CANCEL, NULL);
}

/* ---- frames in ---- */

static void set_idle(process *p) {
    p->state = PROCESS_IDLE;
    p->pinged = p->called_off = false;
    p->timer_ns = esp_clock_now_ns() + PING_NS;
}

static void on_ready(esp_pool *pool, process *p) {
    if (p->state == PROCESS_IDLE) set_idle(p); /* a pong */
    if (p->state != PROCESS_STARTING) return;
    set_idle(p);
    if (p->class == ESP_CLASS_PLAN) atomic_fetch_add(&pool->ready, 1);
    tell_starter(pool, NULL);
}

/* The task's last frame. */
static void on_last(esp_pool *pool, process *p, const esp_frame_header *header, const char *payload) {
    item *i = p->item;
    set_idle(p);
    p->failures = 0;
    if (!i) return; /* answered before */
    if (header->type == ESP_FRAME_DONE) {
        item_end(pool, i, ESP_END_DONE, payload, header->length, NULL);
        return;
    }
    esp_error error = {0};
    esp_frame_read_error(payload, header->length, &error);
    bool obeyed = i->stopping && (error.code == ESP_CANCELLED || error.code == ESP_DEADLINE);
    item_end(pool, i, obeyed ? i->stop_end : ESP_END_ERROR, NULL, 0, obeyed ? NULL : &error);
}

/* LEASE {seconds?} */
static void on_lease(process *p, const esp_frame_header *header, const char *payload) {
    esp_json *json = NULL;
    double seconds = 0;
    if (esp_json_parse(payload, header->length, &json, NULL)) return;
    esp_reader root = esp_reader_root(json), member = esp_read_member(&root, "seconds");
    if (member.value && !esp_read_number(&member, 0, 1e8, &seconds, NULL)) p->silent_until_ns = esp_clock_now_ns() + (int64_t)(seconds * 1e9);
    esp_json_free(json);
}

static void on_frame(esp_pool *pool, process *p, const esp_frame_header *header, const char *payload) {
    if (header->type == ESP_FRAME_READY) {
        on_ready(pool, p);
        return;
    }
    bool at_work = p->state == PROCESS_BUSY || p->state == PROCESS_STOPPING;
    if (header->type == ESP_FRAME_LEASE && header->task == p->task) on_lease(p, header, payload);
    if (at_work) extend_lease(pool, p);
    if (header->type == ESP_FRAME_LEASE) return;
    if (at_work) share_frame(pool, p, header, payload);
    if (!at_work || header->task != p->task) return; /* a word about an earlier task */
    if (header->type == ESP_FRAME_DONE || header->type == ESP_FRAME_ERROR)
        on_last(pool, p, header, payload);
    else if (p->item && p->item->work.ops->frame)
        p->item->work.ops->frame(p->item->work.user, (esp_frame_type)header->type, payload, header->length);
}

static void take_frames(esp_pool *pool, process *p) {
    esp_frame_header header;
    const char *payload = NULL;
    esp_error error = {0};
    size_t pos = 0;
    int got = 0;
    while (!p->doomed && (got = esp_frame_next(&p->in, &pos, &header, &payload, &error)) > 0) on_frame(pool, p, &header, payload);
    if (got < 0) process_kill(p, error.message);
    if (!pos) return;
    memmove(p->in.data, p->in.data + pos, p->in.len - pos);
    p->in.len -= pos;
}

/* Reads some; true when more may be there. */
static bool read_some(esp_pool *pool, process *p) {
    static char chunk[READ_CHUNK]; /* of the one supervisor thread */
    ssize_t n = p->sock < 0 ? 0 : recv(p->sock, chunk, sizeof chunk, 0);
    if (n < 0 && errno == EINTR) return true;
    if (n <= 0) return false;
    esp_buf_put(&p->in, chunk, (size_t)n);
    if (p->in.failed) {
        process_kill(p, "no memory for its frames");
        return false;
    }
    take_frames(pool, p);
    return n == (ssize_t)sizeof chunk;
}

void process_on_socket(esp_pool *pool, process *p) {
    if (p->sock < 0 || p->eof) return;
    for (int turn = 0; turn < READ_TURNS && read_some(pool, p); turn++) continue;
    char byte;
    p->eof = recv(p->sock, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
    if (!p->eof) {
        flush(pool, p);
        return;
    }
    /* It is dying, which its pidfd will tell; one that closed its socket and lives on is of no use. */
    watch(pool, p, p->sock, SOURCE_SOCKET, 0, EPOLL_CTL_DEL);
    if (p->state != PROCESS_STARTING) p->state = PROCESS_STOPPING;
    p->timer_ns = esp_clock_now_ns() + DYING_NS;
}

/* ---- last words ---- */

static void keep_words(process *p, const char *bytes, size_t n) {
    if (n >= WORDS_CAP) {
        memcpy(p->words, bytes + (n - WORDS_CAP), WORDS_CAP);
        p->n_words = WORDS_CAP;
        return;
    }
    size_t drop = p->n_words + n > WORDS_CAP ? p->n_words + n - WORDS_CAP : 0;
    memmove(p->words, p->words + drop, p->n_words - drop);
    memcpy(p->words + p->n_words - drop, bytes, n);
    p->n_words += n - drop;
}

void process_on_words(esp_pool *pool, process *p) {
    char chunk[4096];
    if (p->words_fd < 0) return;
    ssize_t n = read(p->words_fd, chunk, sizeof chunk);
    if (n > 0) {
        keep_words(p, chunk, (size_t)n);
        if (p->item && p->item->work.ops->words) p->item->work.ops->words(p->item->work.user, chunk, (size_t)n);
        esp_log(ESP_LOG_DEBUG, "worker_says", "pid=%d text=\"%.*s\"", (int)p->pid, (int)(n < 1000 ? n : 1000), chunk);
    } else if (n == 0) {
        process_close_fd(pool, &p->words_fd);
    }
}

/* ---- death ---- */

static void describe_death(const process *p, int status, char *ret, size_t room) {
    int n = p->doomed             ? snprintf(ret, room, "killed: %s", p->doomed)
            : WIFSIGNALED(status) ? snprintf(ret, room, "signal %d", WTERMSIG(status))
                                  : snprintf(ret, room, "exit status %d", WEXITSTATUS(status));
    size_t keep = p->n_words < 160 ? p->n_words : 160;
    if (keep && n > 0) snprintf(ret + n, room - (size_t)n, "; last words: %.*s", (int)keep, p->words + p->n_words - keep);
}

void process_on_death(esp_pool *pool, process *p) {
    int status = 0;
    if (!p->pid || waitpid(p->pid, &status, WNOHANG) != p->pid) return;
    /* What it said before it died still counts. */
    bool was_doomed = p->doomed;
    while (!was_doomed && read_some(pool, p)) continue;
    for (int turn = 0; turn < 64 && p->words_fd >= 0; turn++) {
        size_t before = p->n_words;
        process_on_words(pool, p);
        if (p->n_words == before) break;
    }
    char how[256];
    describe_death(p, status, how, sizeof how);
    bool starting = p->state == PROCESS_STARTING;
    if (!starting && p->class == ESP_CLASS_PLAN) atomic_fetch_sub(&pool->ready, 1);
    if (!pool->stopping) {
        esp_metric_add(was_doomed ? ESP_METRIC_WORKERS_KILLED : ESP_METRIC_WORKERS_LOST, 1);
        esp_log(was_doomed ? ESP_LOG_DEBUG : ESP_LOG_NOTICE, was_doomed ? "worker_killed" : "worker_lost", "class=%s pid=%d how=\"%s\"",
                class_name(p), (int)p->pid, how);
    }
    bool early = !was_doomed && esp_clock_now_ns() - p->spawned_ns < LONG_LIFE_NS;
    p->failures = early || starting ? p->failures + 1 : 0;
    process_close_fd(pool, &p->sock);
    process_close_fd(pool, &p->pidfd);
    process_close_fd(pool, &p->words_fd);
    p->pid = 0;
    p->called_off = false;
    set_down(pool, p);
    share_lost(pool, p);
    if (starting) {
        atomic_fetch_add(&pool->start_deaths, 1);
        tell_starter(pool, how);
    }
    if (!p->item) return;
    esp_error error = {0};
    esp_error_set(&error, ESP_WORKER_LOST, "worker", "", "the worker died (%s)", how);
    item *i = p->item;
    p->item = NULL;
    item_orphaned(pool, i, &error);
}

void process_on_timer(esp_pool *pool, process *p, int64_t now_ns) {
    switch (p->state) {
    case PROCESS_DOWN: process_start(pool, p); return;
    case PROCESS_SPAWNING: break;
    case PROCESS_STARTING: process_kill(p, "it did not start"); break;
    case PROCESS_STOPPING: process_kill(p, "it did not stop"); break;
    case PROCESS_IDLE:
        if (p->pinged) {
            process_kill(p, "it did not answer a ping");
            break;
        }
        p->task = 0;
        p->pinged = true;
        p->timer_ns = now_ns + PONG_NS;
        send_frame(pool, p, ESP_FRAME_PING, NULL);
        return;
    case PROCESS_BUSY:
        if (now_ns - p->timer_ns > LATE_NS) extend_lease(pool, p); /* it was us who were stopped */
        if (now_ns >= p->lease_ns) {
            process_kill(p, "it gave no sign of life");
            break;
        }
        p->timer_ns = next_look(p, now_ns);
        return;
    }
    p->timer_ns = ESP_NEVER;
}
