/* SPDX-License-Identifier: Apache-2.0
 * espalier-pushing: a simulated robot that pushes a box, from the command line. A client of the service: no library of it is used.
 *
 *     espalier-pushing data --transitions N --seed S --out FILE      random transitions as NDJSON
 *     espalier-pushing demo --server URL --out DIR [--quick] ...      the whole demo against a running service */
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "robots/hush.h"
#include "robots/pushing/demo.h"

static const char usage[] =
    "usage: espalier-pushing data --out FILE [--transitions 50000] [--seed 1]\n"
    "       espalier-pushing demo --server URL --out DIR [--quick] [--transitions N] [--epochs N] [--rung-epochs N] [--rollout N]\n"
    "                             [--episodes N] [--steps N] [--horizon N] [--deadline-ms N] [--threads N] [--seed S]\n";

enum {
    OPT_OUT = 1,
    OPT_SERVER,
    OPT_QUICK,
    OPT_TRANSITIONS,
    OPT_EPOCHS,
    OPT_RUNG_EPOCHS,
    OPT_ROLLOUT,
    OPT_EPISODES,
    OPT_STEPS,
    OPT_HORIZON,
    OPT_DEADLINE,
    OPT_THREADS,
    OPT_SEED
};

static const struct option options[] = {{"out", required_argument, NULL, OPT_OUT},
                                        {"server", required_argument, NULL, OPT_SERVER},
                                        {"quick", no_argument, NULL, OPT_QUICK},
                                        {"transitions", required_argument, NULL, OPT_TRANSITIONS},
                                        {"epochs", required_argument, NULL, OPT_EPOCHS},
                                        {"rung-epochs", required_argument, NULL, OPT_RUNG_EPOCHS},
                                        {"rollout", required_argument, NULL, OPT_ROLLOUT},
                                        {"episodes", required_argument, NULL, OPT_EPISODES},
                                        {"steps", required_argument, NULL, OPT_STEPS},
                                        {"horizon", required_argument, NULL, OPT_HORIZON},
                                        {"deadline-ms", required_argument, NULL, OPT_DEADLINE},
                                        {"threads", required_argument, NULL, OPT_THREADS},
                                        {"seed", required_argument, NULL, OPT_SEED},
                                        {NULL, 0, NULL, 0}};

static const esp_push_opts full = {.transitions = 50000,
                                   .epochs = 200,
                                   .rung_epochs = 300,
                                   .rollout = 1,
                                   .certify_s = 3,
                                   .ladder = {64, 36, 24, 18, 15},
                                   .n_ladder = 5,
                                   .episodes = 20,
                                   .steps = 15,
                                   .horizon = 5,
                                   .deadline_ms = 200,
                                   .threads = 2,
                                   .seed = 1};
static const esp_push_opts quick = {.quick = true,
                                    .transitions = 20000,
                                    .epochs = 150,
                                    .rung_epochs = 150,
                                    .rollout = 1,
                                    .certify_s = 2,
                                    .ladder = {24, 15},
                                    .n_ladder = 2,
                                    .episodes = 4,
                                    .steps = 15,
                                    .horizon = 5,
                                    .deadline_ms = 150,
                                    .threads = 2,
                                    .seed = 1};

/* A whole number within limits, or the end of the program. */
static int take_int(const char *name, const char *text, int least, int most) {
    char *end;
    long value = strtol(text, &end, 10);
    if (*text == '\0' || *end != '\0' || value < least || value > most) {
        fprintf(stderr, "espalier-pushing: --%s takes a whole number from %d to %d, not \"%s\"\n", name, least, most, text);
        exit(2);
    }
    return (int)value;
}

static void take_option(esp_push_opts *opts, int which, const char *name, const char *text) {
    switch (which) {
    case OPT_OUT: opts->out = text; break;
    case OPT_SERVER: opts->server = text; break;
    case OPT_QUICK: break;
    case OPT_TRANSITIONS: opts->transitions = take_int(name, text, 1, 10000000); break;
    case OPT_EPOCHS: opts->epochs = take_int(name, text, 0, 10000); break;
    case OPT_RUNG_EPOCHS: opts->rung_epochs = take_int(name, text, 0, 10000); break;
    case OPT_ROLLOUT: opts->rollout = take_int(name, text, 1, 20); break;
    case OPT_EPISODES: opts->episodes = take_int(name, text, 1, ESP_PUSH_MAX_EPISODES); break;
    case OPT_STEPS: opts->steps = take_int(name, text, 1, ESP_PUSH_MAX_STEPS); break;
    case OPT_HORIZON: opts->horizon = take_int(name, text, 1, ESP_PUSH_MAX_HORIZON); break;
    case OPT_DEADLINE: opts->deadline_ms = take_int(name, text, 1, 60000); break;
    case OPT_THREADS: opts->threads = take_int(name, text, 1, 16); break;
    case OPT_SEED: opts->seed = (uint64_t)take_int(name, text, 0, 2000000000); break;
    default: fputs(usage, stderr); exit(2);
    }
}

static int run_data(const esp_push_opts *opts) {
    esp_push_data data;
    FILE *out = fopen(opts->out, "w");
    bool good = out != NULL && esp_push_generate(out, opts->transitions, opts->seed, &data);
    if (out != NULL) good = fclose(out) == 0 && good;
    if (!good) {
        fprintf(stderr, "espalier-pushing: %s cannot be written\n", opts->out);
        return 1;
    }
    fprintf(stderr, "%d transitions in %d episodes, contact in %.0f %%\n", data.transitions, data.episodes, 100.0 * data.touching / data.transitions);
    return 0;
}

static int run_demo(const esp_push_opts *opts) {
    esp_client_error error = {0};
    mkdir(opts->out, 0777); /* there already, or found out when writing */
    if (esp_push_demo_run(opts, &error)) return 0;
    fflush(stdout);
    fprintf(stderr, "espalier-pushing: %s", error.message);
    if (error.status != 0) fprintf(stderr, " (%s, HTTP %ld, request %s)", error.name, error.status, error.request_id);
    fputc('\n', stderr);
    return 1;
}

int main(int argc, char **argv) {
    bool demo = argc > 1 && strcmp(argv[1], "demo") == 0;
    if (argc < 2 || (!demo && strcmp(argv[1], "data") != 0)) {
        fputs(usage, stderr);
        return 2;
    }
    esp_push_opts opts = full;
    for (int i = 2; i < argc; i++)
        if (strcmp(argv[i], "--quick") == 0) opts = quick; /* first: the other options refine it */
    int which, at = 0;
    optind = 2;
    while ((which = getopt_long(argc, argv, "", options, &at)) != -1) take_option(&opts, which, which == '?' ? "" : options[at].name, optarg);
    if (optind != argc || opts.out == NULL || (demo && opts.server == NULL)) {
        fputs(usage, stderr);
        return 2;
    }
    esp_hush_chipmunk();
    return demo ? run_demo(&opts) : run_data(&opts);
}
