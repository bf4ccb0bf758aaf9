/* SPDX-License-Identifier: Apache-2.0
 * espalier-worker: does the arithmetic that espalierd must not wait for. Started by espalierd only; takes frames on
 * fd 3 (schema/formats/worker-frames.md), answers there, and leaves when that socket ends.
 *
 * Arguments: memory in MiB, niceness, the daemon's process id. It opens no socket of its own and no database. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/linalg.h"
#include "version.h"
#include "worker/worker.h"

/* A sanitiser's shadow memory is terabytes of address space. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define LIMIT_MEMORY 0
#else
#define LIMIT_MEMORY 1
#endif

static void set_limits(long memory_mib, int niceness) {
    const struct rlimit none = {0, 0};
    const struct rlimit memory = {(rlim_t)memory_mib << 20, (rlim_t)memory_mib << 20};
    setrlimit(RLIMIT_CORE, &none);
    if (LIMIT_MEMORY && memory_mib > 0) setrlimit(RLIMIT_AS, &memory);
    setpriority(PRIO_PROCESS, 0, niceness); /* the daemon's own may be better, and is inherited */
}

/* The daemon's death is ours; it may have died before we asked to be told. */
static bool follow_parent(long parent) {
    return prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && getppid() == (pid_t)parent;
}

static void say_ready(worker *w, uint64_t task) {
    esp_buf text = {0};
    esp_jsonw json = esp_jsonw_on(&text);
    esp_jsonw_object(&json, NULL);
    esp_jsonw_integer(&json, "pid", getpid());
    esp_jsonw_string(&json, "version", ESP_VERSION);
    esp_jsonw_string(&json, "linalg", esp_linalg_describe());
    esp_jsonw_object_end(&json);
    w->task = task;
    worker_send(w, ESP_FRAME_READY, &text);
    esp_buf_done(&text);
}

static void run_task(worker *w, const esp_frame_header *header, const char *payload, worker_task *run) {
    esp_error error = {0};
    esp_json *json = NULL;
    w->task = header->task;
    w->cancelled = false;
    w->leased = header->type == ESP_FRAME_JOB || header->type == ESP_FRAME_HELP;
    esp_code code = esp_json_parse(payload, header->length, &json, &error);
    if (!code) {
        esp_reader root = esp_reader_root(json);
        code = run(w, &root, &error);
    }
    esp_json_free(json);
    w->leased = false;
    if (code) worker_send_error(w, &error);
}

static void run_asks(worker *w, const esp_frame_header *header, const char *payload, worker_answer *answer) {
    esp_error error = {0};
    w->task = header->task;
    w->cancelled = false;
    if (worker_asks(w, answer, payload, header->length, &error)) worker_send_error(w, &error);
}

static void serve(worker *w) {
    esp_frame_header header;
    const char *payload = NULL;
    while (!w->gone && worker_receive(w, &header, &payload)) {
        switch ((esp_frame_type)header.type) {
        case ESP_FRAME_PLAN: run_task(w, &header, payload, worker_plan); break;
        case ESP_FRAME_HELP: run_task(w, &header, payload, worker_help); break;
        case ESP_FRAME_PREDICT: run_asks(w, &header, payload, worker_predict); break;
        case ESP_FRAME_QUERY: run_asks(w, &header, payload, worker_query); break;
        case ESP_FRAME_ARTIFACT: run_asks(w, &header, payload, worker_artifact); break;
        case ESP_FRAME_JOB: run_task(w, &header, payload, worker_job); break;
        case ESP_FRAME_PING: say_ready(w, header.task); break;
        default: break; /* about a task that has ended, or a share of it */
        }
    }
}

int main(int argc, char **argv) {
    int type = 0;
    socklen_t len = sizeof type;
    if (argc != 4 || getsockopt(WORKER_FD, SOL_SOCKET, SO_TYPE, &type, &len) != 0) {
        fputs("espalier-worker is started by espalierd, with a socket on descriptor 3\n", stderr);
        return 2;
    }
    if (!follow_parent(strtol(argv[3], NULL, 10))) return 1;
    set_limits(strtol(argv[1], NULL, 10), (int)strtol(argv[2], NULL, 10));
    signal(SIGPIPE, SIG_IGN);
    setvbuf(stdout, NULL, _IOLBF, 0); /* CBC prints; the pipe should have it when we die */
    static worker w;
    say_ready(&w, 0);
    serve(&w);
    worker_cache_done(&w);
    esp_buf_done(&w.in);
    esp_buf_done(&w.out);
    return 0;
}
