/* SPDX-License-Identifier: Apache-2.0
 * Starting worker processes, on a thread of its own.
 *
 * A worker gets a socket as fd 3, a pipe as standard output and error, and nothing else of ours. posix_spawn returns
 * only when the child has reached its exec, so the supervisor, which must not wait, asks this thread. It lives as long
 * as the daemon for another reason too: a worker asks for a signal at its parent's death, and the kernel takes that for
 * the death of the thread that started it. */
#include "pool/supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* OpenBLAS 0.3.21 knows processors by model number and falls back to SSE3 kernels on those that came later; what it should
 * ask is what the processor can do. NULL: let it choose. */
static char *blas_kernel(void) {
#if defined(__x86_64__)
    static char skylake[] = "OPENBLAS_CORETYPE=SKYLAKEX", haswell[] = "OPENBLAS_CORETYPE=HASWELL";
    if (getenv("OPENBLAS_CORETYPE")) return NULL;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl"))
        return skylake;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return haswell;
#endif
    return NULL;
}

/* The daemon's environment with BLAS pinned to one thread and its kernel chosen; the strings are borrowed. */
static char **worker_environment(void) {
    static char blas[] = "OPENBLAS_NUM_THREADS=1", omp[] = "OMP_NUM_THREADS=1";
    size_t n = 0, kept = 0;
    while (environ[n]) n++;
    char **list = calloc(n + 4, sizeof *list), *kernel = blas_kernel();
    if (!list) return NULL;
    for (size_t k = 0; k < n; k++)
        if (strncmp(environ[k], "OPENBLAS_NUM_THREADS=", 21) != 0 && strncmp(environ[k], "OMP_NUM_THREADS=", 16) != 0) list[kept++] = environ[k];
    list[kept++] = blas;
    list[kept++] = omp;
    if (kernel) list[kept++] = kernel;
    return list;
}

/* The child's fd 3 and standard streams; all else is close-on-exec. The pipe goes first: its number may be 3. */
static int spawn(const esp_pool *pool, const process *p, int sock, int words, pid_t *ret_pid) {
    char memory[16], niceness[8], parent[16];
    snprintf(memory, sizeof memory, "%d", pool->config.worker_memory_mib);
    snprintf(niceness, sizeof niceness, "%d", p->class == ESP_CLASS_BATCH ? 10 : 0);
    snprintf(parent, sizeof parent, "%d", (int)getpid());
    char name[] = "espalier-worker";
    char *argv[] = {name, memory, niceness, parent, NULL};
    char **environment = worker_environment();
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawn_file_actions_init(&files);
    posix_spawnattr_init(&attributes);
    int failed = environment ? 0 : ENOMEM;
    if (!failed) failed = posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    if (!failed) failed = posix_spawn_file_actions_adddup2(&files, words, STDOUT_FILENO);
    if (!failed) failed = posix_spawn_file_actions_adddup2(&files, words, STDERR_FILENO);
    if (!failed) failed = posix_spawn_file_actions_adddup2(&files, sock, 3);
    if (!failed) failed = posix_spawnattr_setsigmask(&attributes, &none);
    if (!failed) failed = posix_spawnattr_setsigdefault(&attributes, &all);
    if (!failed) failed = posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    if (!failed) failed = posix_spawn(ret_pid, pool->config.worker, &files, &attributes, argv, environment);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&files);
    free(environment);
    return failed;
}

static void close_fd(int *fd) {
    if (*fd >= 0) close(*fd);
    *fd = -1;
}

/* Only our ends may not block: the worker writes at its own pace. */
static void set_nonblocking(int fd) {
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

static spawned make(const esp_pool *pool, const process *p) {
    int pair[2] = {-1, -1}, pipes[2] = {-1, -1};
    spawned s = {.pidfd = -1, .what = "socketpair"};
    s.number = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) ? errno : 0;
    if (!s.number) {
        s.what = "pipe";
        s.number = pipe2(pipes, O_CLOEXEC) ? errno : 0;
    }
    if (!s.number) {
        s.what = "posix_spawn";
        s.number = spawn(pool, p, pair[1], pipes[1], &s.pid);
    }
    close_fd(&pair[1]);
    close_fd(&pipes[1]);
    if (!s.number) {
        s.what = "pidfd_open";
        s.pidfd = pidfd_open(s.pid, 0);
        s.number = s.pidfd < 0 ? errno : 0;
        if (s.number) {
            kill(s.pid, SIGKILL);
            waitpid(s.pid, NULL, 0);
        }
    }
    if (s.number) {
        close_fd(&pair[0]);
        close_fd(&pipes[0]);
        s.pid = 0;
        return s;
    }
    set_nonblocking(pair[0]);
    set_nonblocking(pipes[0]);
    s.sock = pair[0];
    s.words_fd = pipes[0];
    return s;
}

/* The index of a process that was asked for, -1 at the end. */
static int next_asked(esp_pool *pool) {
    for (;;) {
        if (pool->spawner_stop) return -1;
        for (int k = 0; k < pool->n_processes; k++)
            if (pool->spawns[k] == SPAWN_ASKED) return k;
        pthread_cond_wait(&pool->spawn_asked, &pool->lock);
    }
}

void *spawner_main(void *user) {
    esp_pool *pool = user;
    pthread_mutex_lock(&pool->lock);
    for (int k; (k = next_asked(pool)) >= 0;) {
        pthread_mutex_unlock(&pool->lock);
        /* Of the process only its class is read, which never changes. */
        spawned s = make(pool, &pool->processes[k]);
        pthread_mutex_lock(&pool->lock);
        pool->spawn_results[k] = s;
        pool->spawns[k] = SPAWN_READY;
        pool_ring(pool);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

void spawn_ask(esp_pool *pool, const process *p) {
    pthread_mutex_lock(&pool->lock);
    pool->spawns[p->index] = SPAWN_ASKED;
    pthread_cond_signal(&pool->spawn_asked);
    pthread_mutex_unlock(&pool->lock);
}

bool spawn_take(esp_pool *pool, const process *p, spawned *ret) {
    pthread_mutex_lock(&pool->lock);
    bool ready = pool->spawns[p->index] == SPAWN_READY;
    if (ready) {
        *ret = pool->spawn_results[p->index];
        pool->spawns[p->index] = SPAWN_NONE;
    }
    pthread_mutex_unlock(&pool->lock);
    return ready;
}
