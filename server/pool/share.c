/* SPDX-License-Identifier: Apache-2.0
 * Plan workers that are idle help with another's plan: who helps whom, and when no longer. What is searched is the
 * workers' own business; nothing of it is read here.
 *
 * A plan has one worker that answers for it, its first. Once that has run for share_after_ms, a plan worker is idle and
 * no plan waits, the first is asked for a share of its open nodes (SHARE, with a number). When its search is wide
 * enough it sends them (NODES); they go to the idle worker behind the plan's request (HELP). From then on frames about
 * that number are passed on as they are, and the first's incumbents go to all its helpers.
 *
 * The first keeps a copy of what it gave. So a helper may be called off, hang or die at any moment: the first is told
 * (CANCEL with the share's number) and goes on from its copy. Work that waits while a worker helps calls a helper off at
 * once. Replies are made of the first's frames alone, so that no deadline waits for a helper.
 *
 * A job that says so (distill) is helped with in the same way, what it gives away being states to plan from; but only when
 * no plan wants help, and no longer than there is a processor for everybody: plans have theirs first. */
#include "pool/supervisor.h"

#include <assert.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>

#include "metrics.h"

/* What failed once may fail again. */
#define AFTER_FAILURE_NS (1 * ESP_NS_PER_S)

int share_limit(const esp_config *config) {
    cpu_set_t set;
    if (config->share_workers > 0) return config->share_workers;
    return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}

/* Processors in use by plans and all helpers; as a job sees it, also those of jobs that are helped with. */
static int busy_workers(const esp_pool *pool, esp_class class) {
    int busy = 0;
    for (int k = 0; k < pool->n_processes; k++) {
        const process *p = &pool->processes[k];
        bool counts = p->class == ESP_CLASS_PLAN || (class == ESP_CLASS_BATCH && p->item && p->item->work.shared);
        busy += counts && (p->state == PROCESS_BUSY || p->state == PROCESS_STOPPING);
    }
    return busy;
}

/* Workers that are idle and have a processor to run on, less those that were promised to plans already. */
static int spare_workers(const esp_pool *pool, esp_class class) {
    int idle = 0, promised = 0;
    for (int k = 0; k < pool->n_processes; k++) {
        const process *p = &pool->processes[k];
        if (p->class != ESP_CLASS_PLAN) continue;
        idle += p->state == PROCESS_IDLE && !p->doomed && !p->pinged;
        promised += p->item && p->item->asked;
    }
    int room = pool->share_limit - busy_workers(pool, class);
    return (idle < room ? idle : room) - promised;
}

/* Rather a plan than a job. */
static bool needs_more(const item *i, const item *than) {
    if (!than || i->work.class != than->work.class) return !than || i->work.class == ESP_CLASS_PLAN;
    return i->helpers < than->helpers;
}

/* The one with the fewest helpers among those that have run long enough. */
static item *neediest(const esp_pool *pool) {
    int64_t now = esp_clock_now_ns();
    item *best = NULL;
    for (int k = 0; k < pool->n_processes; k++) {
        item *i = pool->processes[k].item;
        if (!i || pool->processes[k].state != PROCESS_BUSY || i->asked || i->share_from_ns > now) continue;
        if (needs_more(i, best)) best = i;
    }
    return best;
}

static void ask(esp_pool *pool, item *i) {
    char text[48];
    i->asked = esp_pool_id(pool);
    int n = snprintf(text, sizeof text, "{\"share\":%" PRIu64 "}", i->asked);
    process_send(pool, i->process, ESP_FRAME_SHARE, i->process->task, text, (size_t)n);
}

/* Work of callers that a worker would be found for: helpers are in its way. */
static int work_waits(const esp_pool *pool) {
    return pool->n_queued[ESP_CLASS_PLAN] + (next_ask(pool) ? 1 : 0);
}

void share_idle(esp_pool *pool) {
    if (pool->config.share_after_ms == 0 || work_waits(pool)) return;
    for (;;) {
        item *i = neediest(pool);
        if (!i || spare_workers(pool, i->work.class) < 1) return;
        ask(pool, i);
    }
}

/* The first goes on from its copy. */
static void tell_lost(esp_pool *pool, const item *i, uint64_t share) {
    process_send(pool, i->process, ESP_FRAME_CANCEL, share, "{}", 2);
}

static void detach(process *helper) {
    helper->helps->helpers--;
    helper->helps = NULL;
}

/* The item's next share is a while off. */
static void put_off(item *i, int64_t wait_ns) {
    i->share_from_ns = esp_clock_now_ns() + wait_ns;
    if (i->process->state == PROCESS_BUSY) i->process->timer_ns = i->share_from_ns;
}

/* Two plans that alternate should not spend their time on giving. */
static void call_off(esp_pool *pool, process *helper) {
    item *i = helper->helps;
    detach(helper);
    helper->called_off = true;
    process_stop_task(pool, helper, pool->config.worker_grace_ms * ESP_NS_PER_MS);
    tell_lost(pool, i, helper->task);
    put_off(i, pool->config.share_after_ms * ESP_NS_PER_MS);
    esp_metric_add(ESP_METRIC_SHARES_YIELDED, 1);
}

void share_yield(esp_pool *pool) {
    int waiting = work_waits(pool);
    for (int k = 0; k < pool->n_processes; k++) waiting -= pool->processes[k].called_off;
    for (int k = 0; k < pool->n_processes && waiting > 0; k++) {
        if (!pool->processes[k].helps) continue;
        call_off(pool, &pool->processes[k]);
        waiting--;
    }
    /* A plan that found a worker has its processor too. */
    int over = busy_workers(pool, ESP_CLASS_BATCH) - pool->share_limit;
    for (int k = 0; k < pool->n_processes; k++) over -= pool->processes[k].called_off;
    for (int k = 0; k < pool->n_processes && over > 0; k++) {
        process *p = &pool->processes[k];
        if (!p->helps || p->helps->work.class != ESP_CLASS_BATCH) continue;
        call_off(pool, p);
        over--;
    }
}

void share_end(esp_pool *pool, item *i) {
    i->asked = 0;
    for (int k = 0; k < pool->n_processes && i->helpers > 0; k++) {
        process *p = &pool->processes[k];
        if (p->helps != i) continue;
        detach(p);
        process_stop_task(pool, p, pool->config.worker_grace_ms * ESP_NS_PER_MS);
    }
}

void share_lost(esp_pool *pool, process *helper) {
    item *i = helper->helps;
    if (!i) return;
    detach(helper);
    tell_lost(pool, i, helper->task);
    put_off(i, AFTER_FAILURE_NS);
}

/* The first has answered what it was asked: to an idle worker, if there still is one, and back otherwise. */
static void start(esp_pool *pool, item *i, const char *payload, size_t len) {
    uint64_t share = i->asked;
    process *p = work_waits(pool) ? NULL : idle_process(pool, ESP_CLASS_PLAN, i->work.affinity);
    bool room = i->work.class == ESP_CLASS_PLAN || spare_workers(pool, ESP_CLASS_BATCH) > 0; /* a job may answer late */
    i->asked = 0;
    if (!p || !room || pool->stopping) {
        tell_lost(pool, i, share);
        return;
    }
    i->helpers++;
    process_help(pool, p, i, share);
    process_send(pool, p, ESP_FRAME_NODES, share, payload, len);
    esp_metric_add(ESP_METRIC_SHARES, 1);
}

static void from_first(esp_pool *pool, item *i, const esp_frame_header *header, const char *payload) {
    bool incumbent = header->type == ESP_FRAME_INCUMBENT && header->task == i->id;
    bool about_share = header->type == ESP_FRAME_SHARE || header->type == ESP_FRAME_NODES;
    if (header->type == ESP_FRAME_NODES && i->asked && header->task == i->asked) {
        start(pool, i, payload, header->length);
        return;
    }
    for (int k = 0; k < pool->n_processes && i->helpers > 0; k++) {
        process *p = &pool->processes[k];
        if (p->helps == i && (incumbent || (about_share && header->task == p->task)))
            process_send(pool, p, (esp_frame_type)header->type, p->task, payload, header->length);
    }
}

/* Its last frame ends its part in the plan. */
static void from_helper(esp_pool *pool, process *p, const esp_frame_header *header, const char *payload) {
    item *i = p->helps;
    process_send(pool, i->process, (esp_frame_type)header->type, p->task, payload, header->length);
    if (header->type == ESP_FRAME_DONE || header->type == ESP_FRAME_ERROR) detach(p);
    if (header->type == ESP_FRAME_ERROR) put_off(i, AFTER_FAILURE_NS);
}

void share_frame(esp_pool *pool, process *p, const esp_frame_header *header, const char *payload) {
    assert(!p->item || !p->helps);
    if (p->item && p->state == PROCESS_BUSY) from_first(pool, p->item, header, payload);
    if (p->helps && header->task == p->task) from_helper(pool, p, header, payload);
}
