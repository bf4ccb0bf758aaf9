/* SPDX-License-Identifier: Apache-2.0
 * espalier-robots: the simulated robots from the command line. A client of the service: no library of it is used.
 *
 *     espalier-robots list                                                         names, sizes
 *     espalier-robots data ROBOT [--transitions N] [--steps N] [--seed S]          random transitions as NDJSON on standard output
 *     espalier-robots loop ROBOT --server URL --model REF [--method mip] ...       closed-loop episodes, planned anew at every step
 *     espalier-robots figures ROBOT --server URL --out DIR [--seed S] ...          its rows of the paper's figures, from a running service */
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "robots/episodes.h"
#include "robots/figures/figures.h"
#include "robots/hush.h"

static const char usage[] =
    "usage: espalier-robots list\n"
    "       espalier-robots data ROBOT [--transitions N] [--steps N] [--seed 1]\n"
    "       espalier-robots loop ROBOT --server URL --model REF [--method mip] [--plans 10] [--steps 20] [--horizon N] [--deadline-ms N] [--seed 1]\n"
    "       espalier-robots figures ROBOT --server URL --out DIR [--transitions N] [--epochs N] [--rung-epochs N] [--ladder 64,36,...]\n"
    "                                     [--trials N] [--steps N] [--plans N] [--plan-relu N] [--horizon N] [--deadline-ms N] [--seed 1]\n";

enum {
    OPT_SERVER = 1,
    OPT_OUT,
    OPT_MODEL,
    OPT_METHOD,
    OPT_LADDER,
    OPT_TRANSITIONS,
    OPT_STEPS,
    OPT_SEED,
    OPT_EPOCHS,
    OPT_RUNG_EPOCHS,
    OPT_TRIALS,
    OPT_PLANS,
    OPT_PLAN_RELU,
    OPT_HORIZON,
    OPT_DEADLINE
};

static const struct option options[] = {
    {"server", required_argument, NULL, OPT_SERVER},        {"out", required_argument, NULL, OPT_OUT},
    {"model", required_argument, NULL, OPT_MODEL},          {"method", required_argument, NULL, OPT_METHOD},
    {"ladder", required_argument, NULL, OPT_LADDER},        {"transitions", required_argument, NULL, OPT_TRANSITIONS},
    {"steps", required_argument, NULL, OPT_STEPS},          {"seed", required_argument, NULL, OPT_SEED},
    {"epochs", required_argument, NULL, OPT_EPOCHS},        {"rung-epochs", required_argument, NULL, OPT_RUNG_EPOCHS},
    {"trials", required_argument, NULL, OPT_TRIALS},        {"plans", required_argument, NULL, OPT_PLANS},
    {"plan-relu", required_argument, NULL, OPT_PLAN_RELU},  {"horizon", required_argument, NULL, OPT_HORIZON},
    {"deadline-ms", required_argument, NULL, OPT_DEADLINE}, {NULL, 0, NULL, 0}};

/* A whole number within limits, or the end of the program. */
static int take_int(const char *name, const char *text, int least, int most) {
    char *end;
    long value = strtol(text, &end, 10);
    if (*text == '\0' || *end != '\0' || value < least || value > most) {
        fprintf(stderr, "espalier-robots: --%s takes a whole number from %d to %d, not \"%s\"\n", name, least, most, text);
        exit(2);
    }
    return (int)value;
}

/* Falling numbers with commas between. */
static void take_ladder(esp_figures_opts *opts, const char *text) {
    int n = 0, last = opts->neurons;
    char *end = NULL;
    for (const char *at = text;; at = end + 1) {
        long value = strtol(at, &end, 10);
        if (end == at || (*end != ',' && *end != '\0') || value < 0 || value >= last || n == ESP_FIGURES_RUNGS) {
            fprintf(stderr, "espalier-robots: --ladder takes up to %d falling numbers below %d, such as 64,36,24; not \"%s\"\n", ESP_FIGURES_RUNGS,
                    opts->neurons, text);
            exit(2);
        }
        opts->ladder[n++] = last = (int)value;
        if (*end == '\0') break;
    }
    opts->n_ladder = n;
}

static void take_option(esp_figures_opts *o, int which, const char *name, const char *text) {
    switch (which) {
    case OPT_SERVER: o->server = text; break;
    case OPT_OUT: o->out = text; break;
    case OPT_MODEL: o->model = text; break;
    case OPT_METHOD: o->method = text; break;
    case OPT_LADDER: take_ladder(o, text); break;
    case OPT_TRANSITIONS: o->transitions = take_int(name, text, 1, 10000000); break;
    case OPT_STEPS: o->steps = take_int(name, text, 1, 1000); break;
    case OPT_SEED: o->seed = (uint64_t)take_int(name, text, 0, 2000000000); break;
    case OPT_EPOCHS: o->epochs = take_int(name, text, 0, 10000); break;
    case OPT_RUNG_EPOCHS: o->rung_epochs = take_int(name, text, 0, 10000); break;
    case OPT_TRIALS: o->trials = take_int(name, text, 1, 4000); break;
    case OPT_PLANS: o->plans = take_int(name, text, 0, 1000); break;
    case OPT_PLAN_RELU: o->plan_relu = take_int(name, text, 0, 10000); break;
    case OPT_HORIZON: o->horizon = take_int(name, text, 1, 32); break;
    case OPT_DEADLINE: o->deadline_ms = take_int(name, text, 1, 60000); break;
    default: fputs(usage, stderr); exit(2);
    }
}

static int list(void) {
    for (int i = 0; esp_robots[i] != NULL; i++)
        if (esp_robots[i]->start != NULL)
            printf("%-9s y %d, u %d, %d transitions\n", esp_robots[i]->name, esp_robots[i]->ny, esp_robots[i]->nu, esp_robots[i]->transitions);
        else
            printf("%-9s not in this build: install libmujoco-dev and make again\n", esp_robots[i]->name);
    return 0;
}

static int write_data(const esp_robot *robot, const esp_figures_opts *o, int steps) {
    esp_episodes made;
    if (!esp_episodes_write(robot, stdout, o->transitions > 0 ? o->transitions : robot->transitions, steps, o->seed, NULL, NULL, &made)) {
        fprintf(stderr, "espalier-robots: standard output cannot be written, or no memory\n");
        return 1;
    }
    fprintf(stderr, "%d transitions in %d episodes", made.transitions, made.episodes);
    if (robot->event != NULL) fprintf(stderr, ", %s in %.0f %%", robot->event, 100.0 * made.events / made.transitions);
    fputc('\n', stderr);
    return 0;
}

/* The rows of the figures, or the episodes of a closed loop. */
static int ask_service(const esp_robot *robot, const esp_figures_opts *o, bool loop) {
    esp_client_error error = {0};
    esp_figures figures = {.robot = robot, .opts = o};
    if (!loop) mkdir(o->out, 0777); /* there already, or found out when writing */
    bool good = esp_client_open(o->server, NULL, &figures.client, &error) == ESP_CLIENT_OK;
    if (good && loop)
        good = esp_figures_loop(&figures, &error);
    else
        good = good && esp_figures_learn(&figures, &error) && esp_figures_plan(&figures, &error);
    esp_client_close(figures.client);
    if (good) return 0;
    fflush(stdout);
    fprintf(stderr, "espalier-robots: %s", error.message);
    if (error.status != 0) fprintf(stderr, " (%s, HTTP %ld, request %s)", error.name, error.status, error.request_id);
    fputc('\n', stderr);
    return 1;
}

static const esp_robot *take_robot(const char *name) {
    const esp_robot *robot = esp_robot_find(name);
    if (robot == NULL) fprintf(stderr, "espalier-robots: there is no robot \"%s\"; `espalier-robots list` names them\n", name);
    if (robot != NULL && robot->start == NULL) fprintf(stderr, "espalier-robots: %s wants MuJoCo: install libmujoco-dev and make again\n", name);
    if (robot == NULL || robot->start == NULL) exit(2);
    return robot;
}

int main(int argc, char **argv) {
    bool figures = argc > 2 && strcmp(argv[1], "figures") == 0, data = argc > 2 && strcmp(argv[1], "data") == 0,
         loop = argc > 2 && strcmp(argv[1], "loop") == 0;
    if (argc == 2 && strcmp(argv[1], "list") == 0) return list();
    if (!figures && !data && !loop) {
        fputs(usage, stderr);
        return 2;
    }
    esp_figures_opts opts = {.epochs = 60,
                             .rung_epochs = 60,
                             .ladder = {64, 36, 24, 15, 8},
                             .n_ladder = 5,
                             .trials = 100,
                             .plans = loop ? 10 : 20,
                             .plan_relu = 36,
                             .deadline_ms = loop ? 200 : 1000,
                             .method = "mip",
                             .seed = 1};
    const esp_robot *robot = take_robot(argv[2]);
    opts.hidden = robot->objects > 0 ? 32 : 64; /* of a graph network's seven hidden layers, of a plain one's two */
    opts.neurons = (robot->objects > 0 ? 7 : 2) * opts.hidden;
    int which, at = 0;
    optind = 3;
    while ((which = getopt_long(argc, argv, "", options, &at)) != -1) take_option(&opts, which, which == '?' ? "" : options[at].name, optarg);
    if (optind != argc || (figures && (opts.out == NULL || opts.server == NULL)) || (loop && (opts.model == NULL || opts.server == NULL))) {
        fputs(usage, stderr);
        return 2;
    }
    esp_hush_chipmunk();
    if (data) return write_data(robot, &opts, opts.steps);
    if (opts.steps == 0) opts.steps = 20;
    return ask_service(robot, &opts, loop);
}
