/* SPDX-License-Identifier: Apache-2.0
 * Sessions (session.h): a hash table of small arrays. */
#include "session.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "ontime.h"

enum { BUCKETS = 1024, SESSIONS_MAX = 8192 };

typedef struct session {
    struct session *next;
    char name[ESP_SESSION_NAME_MAX + 1];
    int nu, horizon;
    double *inputs; /* horizon x nu */
    int64_t used_ns;
} session;

struct esp_sessions {
    pthread_mutex_t lock;
    int64_t idle_ns;
    size_t n;
    session *buckets[BUCKETS];
};

esp_sessions *esp_sessions_create(int idle_s) {
    esp_sessions *s = calloc(1, sizeof *s);
    if (!s) return NULL;
    esp_ontime_lock_init(&s->lock);
    s->idle_ns = idle_s * ESP_NS_PER_S;
    return s;
}

static void drop(esp_sessions *s, session **link) {
    session *gone = *link;
    *link = gone->next;
    free(gone->inputs);
    free(gone);
    s->n--;
}

void esp_sessions_free(esp_sessions *sessions) {
    if (!sessions) return;
    for (int b = 0; b < BUCKETS; b++)
        while (sessions->buckets[b]) drop(sessions, &sessions->buckets[b]);
    pthread_mutex_destroy(&sessions->lock);
    free(sessions);
}

/* FNV-1a. */
static session **bucket(esp_sessions *s, const char *name) {
    uint32_t hash = 2166136261u;
    for (; *name; name++) hash = (hash ^ (unsigned char)*name) * 16777619u;
    return &s->buckets[hash % BUCKETS];
}

/* The link to the session; sessions of the bucket that have been idle too long go on the way. */
static session **find(esp_sessions *s, const char *name, int64_t now) {
    session **found = NULL;
    session **link = bucket(s, name);
    while (*link) {
        if (now - (*link)->used_ns > s->idle_ns) {
            drop(s, link);
            continue;
        }
        if (strcmp((*link)->name, name) == 0) found = link;
        link = &(*link)->next;
    }
    return found;
}

static void drop_oldest(esp_sessions *s) {
    session **oldest = NULL;
    for (int b = 0; b < BUCKETS; b++)
        for (session **link = &s->buckets[b]; *link; link = &(*link)->next)
            if (!oldest || (*link)->used_ns < (*oldest)->used_ns) oldest = link;
    if (oldest) drop(s, oldest);
}

bool esp_sessions_next(esp_sessions *sessions, const char *name, int nu, int horizon, double *ret) {
    int64_t now = esp_clock_now_ns();
    pthread_mutex_lock(&sessions->lock);
    session **link = find(sessions, name, now);
    session *s = link ? *link : NULL;
    bool found = s && s->nu == nu;
    if (found) {
        s->used_ns = now;
        for (int t = 0; t < horizon; t++) {
            int from = t + 1 < s->horizon ? t + 1 : s->horizon - 1;
            memcpy(ret + (size_t)t * (size_t)nu, s->inputs + (size_t)from * (size_t)nu, (size_t)nu * sizeof *ret);
        }
    }
    pthread_mutex_unlock(&sessions->lock);
    return found;
}

void esp_sessions_keep(esp_sessions *sessions, const char *name, int nu, int horizon, const double *inputs) {
    size_t bytes = (size_t)nu * (size_t)horizon * sizeof *inputs;
    double *copy = malloc(bytes);
    session *fresh = calloc(1, sizeof *fresh);
    if (!copy || !fresh) goto out;
    memcpy(copy, inputs, bytes);
    int64_t now = esp_clock_now_ns();
    pthread_mutex_lock(&sessions->lock);
    session **link = find(sessions, name, now);
    session *s = link ? *link : NULL;
    if (!s) {
        if (sessions->n >= SESSIONS_MAX) drop_oldest(sessions);
        s = fresh;
        fresh = NULL;
        strncpy(s->name, name, ESP_SESSION_NAME_MAX);
        session **head = bucket(sessions, name);
        s->next = *head;
        *head = s;
        sessions->n++;
    }
    double *old = s->inputs;
    s->inputs = copy;
    s->nu = nu;
    s->horizon = horizon;
    s->used_ns = now;
    copy = old;
    pthread_mutex_unlock(&sessions->lock);
out:
    free(copy);
    free(fresh);
}
