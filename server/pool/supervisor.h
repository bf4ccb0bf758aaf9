/* SPDX-License-Identifier: Apache-2.0
 * Inside the pool: what the supervisor thread owns. Nothing here but `commands` is touched by another thread.
 *
 *     pool.c        the public calls: commands in, the threads' start and end
 *     supervisor.c  the loop; work items: queues, deadlines, ends
 *     process.c     worker processes: started, fed, read, buried
 *     share.c       idle plan workers that help with another's plan
 *     spawn.c       the spawner thread: posix_spawn waits for the child's exec, which on a loaded machine takes tens of
 *                   milliseconds that no deadline has to spare */
#ifndef ESP_SERVER_POOL_SUPERVISOR_H
#define ESP_SERVER_POOL_SUPERVISOR_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

#include "base/clock.h"
#include "pool/pool.h"

enum { WORDS_CAP = 4096, ITEM_BUCKETS = 1024 };

/* What epoll hands back: a kind and, for a process, its index. */
typedef enum source { SOURCE_BELL, SOURCE_TIMER, SOURCE_SOCKET, SOURCE_DEATH, SOURCE_WORDS } source;

typedef enum process_state {
    PROCESS_DOWN, /* none; `timer_ns` says when to start one */
    PROCESS_SPAWNING, /* the spawner has been asked */
    PROCESS_STARTING, /* spawned, READY not seen; killed at timer_ns */
    PROCESS_IDLE, /* pinged at timer_ns; killed at it when `pinged` */
    PROCESS_BUSY, /* looked at at timer_ns: may others help? does it live? */
    PROCESS_STOPPING /* told to CANCEL; killed at timer_ns */
} process_state;

typedef struct item item;

typedef struct process {
    int index;
    esp_class class; /* PLAN or BATCH */
    process_state state;
    pid_t pid;
    int pidfd, sock, words_fd; /* -1 when none */
    esp_buf in, out;
    size_t out_pos;
    bool want_write, pinged;
    const char *doomed; /* why we killed it, its death is waited for; NULL: we did not */
    bool eof; /* its socket has ended */
    item *item; /* NULL when idle, when its item has been answered already, or when it */
    item *helps; /* with an item of another; `task` is then the number of its share */
    bool called_off; /* it helped, and stops for work that waits */
    uint64_t task; /* number of the task it was given last */
    uint64_t affinity; /* of that task */
    int64_t timer_ns, spawned_ns;
    int64_t lease_ns; /* at work on a job: by then it must have said something; ESP_NEVER: on anything else */
    int64_t silent_until_ns; /* it has said that it may say nothing until then */
    int failures; /* deaths in a row without a task done */
    char words[WORDS_CAP];
    size_t n_words;
} process;

struct item {
    uint64_t id;
    esp_work work;
    process *process; /* NULL while queued */
    int lost; /* workers that died on it */
    bool stopping; /* attached and told to stop: ends as stop_end */
    esp_end stop_end;
    int64_t taken_ns, began_ns; /* first and latest worker; 0 = none yet */
    item *prev, *next; /* of the class's queue */
    item *hash_next;
    size_t heap_at; /* place in the deadline heap, SIZE_MAX when not in it */
    int64_t share_from_ns; /* idle workers may help from then on; ESP_NEVER: none may */
    uint64_t asked; /* number of the share that its worker was asked for and has not given yet; 0: none */
    int helpers;
};

typedef struct command {
    item *submit; /* or NULL: */
    uint64_t cancel; /* the id */
} command;

/* What the spawner made of a request. */
typedef struct spawned {
    pid_t pid; /* 0: it failed */
    int pidfd, sock, words_fd;
    const char *what; /* the call that failed */
    int number; /* its errno */
} spawned;

/* A process's place with the spawner; `lock`. */
typedef enum spawn_state { SPAWN_NONE, SPAWN_ASKED, SPAWN_READY } spawn_state;

struct esp_pool {
    esp_config config;
    pthread_t thread;
    bool thread_started;

    /* the door: any thread */
    pthread_mutex_t lock;
    pthread_cond_t started; /* ready or failed has changed during start */
    command *commands;
    size_t n_commands, cap_commands;
    bool closed;
    char start_words[256]; /* why a worker did not start */
    int bell; /* eventfd */
    pthread_t spawner;
    bool spawner_started, spawner_stop;
    pthread_cond_t spawn_asked;
    spawn_state *spawns; /* one per process */
    spawned *spawn_results;
    atomic_uint_fast64_t next_id;
    atomic_int ready, pending[ESP_CLASSES];
    atomic_int start_deaths; /* workers that died before READY */
    int limit[ESP_CLASSES]; /* of pending */
    int ask_limit; /* of workers busy with ASK work */
    int share_limit; /* plan workers busy at once up to which idle ones help */

    /* the supervisor's own */
    int epoll, timer;
    process *processes;
    int n_processes;
    item *head[ESP_CLASSES], *tail[ESP_CLASSES];
    int n_queued[ESP_CLASSES];
    item *buckets[ITEM_BUCKETS];
    item **heap; /* by deadline */
    size_t n_heap, cap_heap;
    esp_buf payload; /* of the frame being made */
    bool stopping;
};

/* --- supervisor.c --- */
void *supervisor_main(void *pool);
/* The item leaves every list and is told how it ended. */
void item_end(esp_pool *pool, item *i, esp_end end, const char *payload, size_t len, const esp_error *error);
/* Its worker is gone: once more, or the end. */
void item_orphaned(esp_pool *pool, item *i, const esp_error *error);
/* The oldest ASK work that may go to a worker when one is idle; or NULL. */
item *next_ask(const esp_pool *pool);
/* An idle worker for the class, rather one that had the same model last; or NULL. */
process *idle_process(esp_pool *pool, esp_class class, uint64_t affinity);

/* --- share.c --- */
int share_limit(const esp_config *config);
/* Asks for shares for idle workers. */
void share_idle(esp_pool *pool);
/* Calls helpers off for work that waits. */
void share_yield(esp_pool *pool);
/* The item is over, or its first worker is: nobody helps any more. */
void share_end(esp_pool *pool, item *i);
/* The helper died. A process that helps nobody: nothing. */
void share_lost(esp_pool *pool, process *helper);
/* Passes on a frame that is about a share; others are left alone. */
void share_frame(esp_pool *pool, process *p, const esp_frame_header *header, const char *payload);

/* --- spawn.c --- */
void *spawner_main(void *pool);
void spawn_ask(esp_pool *pool, const process *p);
/* What has come of it; false while nothing has. */
bool spawn_take(esp_pool *pool, const process *p, spawned *ret);

/* --- pool.c --- */
void pool_ring(esp_pool *pool);

/* --- process.c --- */
void process_start(esp_pool *pool, process *p);
/* What the spawner has made, if it has. */
void process_adopt(esp_pool *pool, process *p);
void process_run(esp_pool *pool, process *p, item *i);
/* Gives it the item's request as the share of that number. */
void process_help(esp_pool *pool, process *p, item *i, uint64_t share);
void process_send(esp_pool *pool, process *p, esp_frame_type type, uint64_t task, const char *payload, size_t len);
/* Tells it to stop its task, and when it will be killed otherwise. */
void process_stop_task(esp_pool *pool, process *p, int64_t grace_ns);
void process_kill(process *p, const char *why);
void process_on_socket(esp_pool *pool, process *p);
void process_on_words(esp_pool *pool, process *p);
void process_close_fd(esp_pool *pool, int *fd);
void process_on_death(esp_pool *pool, process *p);
void process_on_timer(esp_pool *pool, process *p, int64_t now_ns);

#endif
