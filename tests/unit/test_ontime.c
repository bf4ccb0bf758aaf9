/* SPDX-License-Identifier: Apache-2.0
 * Priority of threads and the record of lag. What the system refuses is not asked of it: the record is tested anywhere. */
#include <check.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "ontime.h"

START_TEST(lag__is_the_longest_of_late) {
    ck_assert_int_eq(esp_lag_ns(), 0);
    esp_lag_note(3000000);
    esp_lag_note(20000000);
    esp_lag_note(1000000);
    ck_assert_int_eq(esp_lag_ns(), 20000000);
}
END_TEST

START_TEST(lag__of_what_was_early_or_is_absurd) {
    esp_lag_note(-5);
    ck_assert_int_eq(esp_lag_ns(), 0);
    esp_lag_note(INT64_MAX);
    ck_assert_int_gt(esp_lag_ns(), 1000000000);
    ck_assert_int_lt(esp_lag_ns(), INT64_MAX / 2);
}
END_TEST

static void *note_many(void *user) {
    for (int i = 0; i < 100000; i++) esp_lag_note((int64_t)(i % 1000) * 1000 + *(const int *)user);
    return NULL;
}

START_TEST(lag__of_many_threads_loses_none) {
    pthread_t threads[4];
    int most[4] = {0, 5000000, 2000000, 1000000};
    for (int i = 0; i < 4; i++) ck_assert_int_eq(pthread_create(&threads[i], NULL, note_many, &most[i]), 0);
    for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
    ck_assert_int_eq(esp_lag_ns(), 5999000);
}
END_TEST

static void *policy_of_thread(void *user) {
    *(int *)user = sched_getscheduler(0);
    return NULL;
}

static int policy_inherited(void) {
    pthread_t thread;
    int policy = -1;
    ck_assert_int_eq(pthread_create(&thread, NULL, policy_of_thread, &policy), 0);
    pthread_join(thread, NULL);
    return policy;
}

static void *keep_busy(void *user) {
    int *policies = user;
    policies[0] = sched_getscheduler(0);
    for (int64_t end = esp_clock_now_ns() + 400 * ESP_NS_PER_MS, now; (now = esp_clock_now_ns()) < end;) esp_ontime_pace(ESP_URGENCY_HTTP, now);
    policies[1] = sched_getscheduler(0);
    nanosleep(&(struct timespec){1, 200000000}, NULL);
    esp_ontime_pace(ESP_URGENCY_HTTP, esp_clock_now_ns());
    policies[2] = sched_getscheduler(0);
    return NULL;
}

/* A thread that is always busy is urgent no more; after a second of rest it is again. */
START_TEST(urgency__is_laid_down_by_who_is_kept_busy) {
    pthread_t thread;
    int policies[3];
    esp_ontime_init();
    esp_ontime_enter(ESP_URGENCY_HTTP);
    ck_assert_int_eq(pthread_create(&thread, NULL, keep_busy, policies), 0);
    esp_ontime_leave();
    pthread_join(thread, NULL);
    ck_assert_int_eq(policies[1], SCHED_OTHER);
    ck_assert_int_eq(policies[2], policies[0]); /* SCHED_RR, or what it was where that is refused */
}
END_TEST

/* Refused, every thread stays as it was. */
START_TEST(urgency__is_inherited_until_leave) {
    esp_ontime_init();
    ck_assert_int_eq(sched_getscheduler(0), SCHED_OTHER);
    esp_ontime_enter(ESP_URGENCY_HTTP);
    int policy = sched_getscheduler(0);
    ck_assert(policy == SCHED_RR || policy == SCHED_OTHER);
    ck_assert_int_eq(policy_inherited(), policy);
    esp_ontime_leave();
    ck_assert_int_eq(sched_getscheduler(0), SCHED_OTHER);
    ck_assert_int_eq(policy_inherited(), SCHED_OTHER);
}
END_TEST

static atomic_int woken;

/* Holds the lock until it is as urgent as who waits for it, or cannot be. */
static void *hold(void *user) {
    pthread_mutex_t *lock = user;
    esp_ontime_leave();
    pthread_mutex_lock(lock);
    atomic_store(&woken, 1);
    nanosleep(&(struct timespec){0, 50000000}, NULL);
    char text[1024] = "";
    FILE *file = fopen("/proc/thread-self/stat", "r");
    size_t n = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[n] = '\0';
    int priority = 0; /* below 0: real-time */
    const char *rest = strrchr(text, ')');
    ck_assert_int_eq(sscanf(rest + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %d", &priority), 1);
    atomic_store(&woken, priority < 0 ? 2 : 3);
    pthread_mutex_unlock(lock);
    return NULL;
}

START_TEST(lock__lends_its_holder_the_urgency_of_who_waits) {
    pthread_mutex_t lock;
    pthread_t holder;
    esp_ontime_init();
    esp_ontime_lock_init(&lock);
    ck_assert_int_eq(pthread_create(&holder, NULL, hold, &lock), 0);
    while (atomic_load(&woken) == 0) sched_yield();
    esp_ontime_enter(ESP_URGENCY_SUPERVISOR);
    int expected = sched_getscheduler(0) == SCHED_RR ? 2 : 3;
    pthread_mutex_lock(&lock);
    ck_assert_int_eq(atomic_load(&woken), expected);
    pthread_mutex_unlock(&lock);
    pthread_join(holder, NULL);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("ontime");
    TCase *tc = tcase_create("ontime");
    tcase_add_test(tc, lag__is_the_longest_of_late);
    tcase_add_test(tc, lag__of_what_was_early_or_is_absurd);
    tcase_add_test(tc, lag__of_many_threads_loses_none);
    tcase_add_test(tc, urgency__is_laid_down_by_who_is_kept_busy);
    tcase_add_test(tc, urgency__is_inherited_until_leave);
    tcase_add_test(tc, lock__lends_its_holder_the_urgency_of_who_waits);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
