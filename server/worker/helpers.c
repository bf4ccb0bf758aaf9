/* SPDX-License-Identifier: Apache-2.0
 * A round at a time: its number goes up, each helper does its part, the last one out says so. */
#include "worker/helpers.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

#define LOOKS 20000 /* at a number that does not change, before sleeping: tens of microseconds */

typedef struct helper {
    helpers *all;
    int part;
    pthread_t thread;
} helper;

struct helpers {
    esp_parallel parallel;
    int n_started;
    helper each[ESP_MAX_PARTS];
    atomic_uint round;
    atomic_int left; /* helpers that are not through with the round */
    atomic_bool quit;
    void (*part)(void *arg, int i);
    void *arg;
    pthread_mutex_t lock; /* to sleep by */
    pthread_cond_t begun, done;
};

/* The number of the next round after `seen`; the same when it is time to leave. */
static unsigned next_round(helpers *h, unsigned seen) {
    for (int i = 0; i < LOOKS; i++)
        if (atomic_load(&h->round) != seen || atomic_load(&h->quit)) return atomic_load(&h->round);
    pthread_mutex_lock(&h->lock);
    while (atomic_load(&h->round) == seen && !atomic_load(&h->quit)) pthread_cond_wait(&h->begun, &h->lock);
    pthread_mutex_unlock(&h->lock);
    return atomic_load(&h->round);
}

static void *help(void *arg) {
    helper *own = arg;
    helpers *h = own->all;
    for (unsigned seen = 0, round; (round = next_round(h, seen)) != seen; seen = round) {
        h->part(h->arg, own->part);
        if (atomic_fetch_sub(&h->left, 1) > 1) continue;
        pthread_mutex_lock(&h->lock);
        pthread_cond_signal(&h->done);
        pthread_mutex_unlock(&h->lock);
    }
    return NULL;
}

static void run(void *user, void (*part)(void *arg, int i), void *arg) {
    helpers *h = user;
    h->part = part;
    h->arg = arg;
    atomic_store(&h->left, h->n_started);
    pthread_mutex_lock(&h->lock);
    atomic_fetch_add(&h->round, 1);
    pthread_cond_broadcast(&h->begun);
    pthread_mutex_unlock(&h->lock);
    part(arg, 0);
    for (int i = 0; i < LOOKS; i++)
        if (atomic_load(&h->left) == 0) return;
    pthread_mutex_lock(&h->lock);
    while (atomic_load(&h->left) > 0) pthread_cond_wait(&h->done, &h->lock);
    pthread_mutex_unlock(&h->lock);
}

esp_code helpers_create(int n, helpers **ret_helpers, esp_error *reterr) {
    assert(n >= 2 && n <= ESP_MAX_PARTS);
    helpers *h = calloc(1, sizeof *h);
    if (!h) return esp_fail(reterr, ESP_NOMEM, "%d threads", n);
    h->parallel = (esp_parallel){n, h, run};
    pthread_mutex_init(&h->lock, NULL);
    pthread_cond_init(&h->begun, NULL);
    pthread_cond_init(&h->done, NULL);
    for (int i = 1; i < n; i++) {
        h->each[i] = (helper){.all = h, .part = i};
        if (pthread_create(&h->each[i].thread, NULL, help, &h->each[i])) {
            helpers_free(h);
            return esp_fail(reterr, ESP_NOMEM, "only %d of %d threads could be started", i, n);
        }
        h->n_started++;
    }
    *ret_helpers = h;
    return ESP_OK;
}

void helpers_free(helpers *h) {
    if (!h) return;
    pthread_mutex_lock(&h->lock);
    atomic_store(&h->quit, true);
    pthread_cond_broadcast(&h->begun);
    pthread_mutex_unlock(&h->lock);
    for (int i = 1; i <= h->n_started; i++) pthread_join(h->each[i].thread, NULL);
    pthread_cond_destroy(&h->begun);
    pthread_cond_destroy(&h->done);
    pthread_mutex_destroy(&h->lock);
    free(h);
}

const esp_parallel *helpers_parallel(const helpers *h) {
    return h ? &h->parallel : NULL;
}
