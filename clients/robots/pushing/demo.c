/* SPDX-License-Identifier: Apache-2.0
 * The pushing demo from data to pictures (demo.h): a robot that knows the service by its HTTP interface only. */
#include "robots/pushing/demo.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int find_model(const esp_push_demo *demo, int relu) {
    for (int i = 0; i < demo->n_models; i++)
        if (demo->model[i].relu == relu) return i;
    return -1;
}

/* Exact planning on the sparse rungs that were trained; the index of the model it does best on. */
static bool run_exact(esp_push_demo *demo, int *ret_best, esp_client_error *reterr) {
    static const int full[] = {36, 24, 18, 15}, quick[] = {15};
    const int *relus = demo->opts->quick ? quick : full;
    int n = demo->opts->quick ? 1 : 4, best = -1;
    for (int i = 0; i < n; i++) {
        int model = find_model(demo, relus[i]), run;
        if (model < 0) continue;
        if (!esp_push_run_method(demo, "mip", model, &run, reterr)) return false;
        if (best < 0 || demo->run[run].error_mean < demo->run[best].error_mean) best = run;
    }
    if (best < 0) {
        *reterr = (esp_client_error){.code = ESP_CLIENT_FORMAT, .message = "no model with as few ReLUs as exact planning needs was trained"};
        return false;
    }
    *ret_best = demo->run[best].model;
    return true;
}

static bool run_all(esp_push_demo *demo, esp_client_error *reterr) {
    int best, run;
    if (!run_exact(demo, &best, reterr)) return false;
    if (!esp_push_run_method(demo, "mppi", best, &run, reterr)) return false;
    if (!esp_push_run_method(demo, "mppi", 0, &run, reterr)) return false;
    return demo->opts->quick || esp_push_run_method(demo, "cem", 0, &run, reterr);
}

static void print_results(const esp_push_demo *demo) {
    const esp_push_opts *o = demo->opts;
    printf("\n%d episodes of %d steps per planner, horizon %d, a new plan every step within %d ms. RMSE: one step, validation data, unit 100 px.\n"
           "bound: certified largest difference to the parent model over the data box. late: replies after the deadline + %.0f ms.\n"
           "error: mean distance of the keypoints to the goal at the end (the box's side is %.0f px). model error: one step, along the episodes.\n\n",
           o->episodes, o->steps, o->horizon, o->deadline_ms, ESP_PUSH_LATE_MS, 200.0 * ESP_PUSH_HALF);
    esp_push_print_table(demo, stdout, false);
    printf("\n");
    esp_push_print_findings(demo, stdout);
}

/* Ticks of processor time that a hypervisor gave to others, and all ticks, since the machine started; zeros elsewhere than
 * on Linux. A reply cannot be in time while the machine stands still, so the table says how much of that there was. */
static void read_stolen(double *ret_stolen, double *ret_all) {
    double ticks[8] = {0};
    FILE *stat = fopen("/proc/stat", "r");
    if (stat != NULL) {
        if (fscanf(stat, "cpu %lf %lf %lf %lf %lf %lf %lf %lf", &ticks[0], &ticks[1], &ticks[2], &ticks[3], &ticks[4], &ticks[5], &ticks[6],
                   &ticks[7]) != 8)
            memset(ticks, 0, sizeof ticks);
        fclose(stat);
    }
    *ret_stolen = ticks[7];
    *ret_all = 0;
    for (int i = 0; i < 8; i++) *ret_all += ticks[i];
}

static bool run_stages(esp_push_demo *demo, esp_client_error *reterr) {
    const esp_push_opts *o = demo->opts;
    if (esp_client_open(o->server, NULL, &demo->client, reterr) != ESP_CLIENT_OK) return false;
    if (!esp_push_upload(demo, reterr) || !esp_push_train(demo, reterr)) return false;
    double start = now_s();
    if (!esp_push_certify(demo, reterr)) return false;
    printf("certified  in %.0f s:\n\n", now_s() - start);
    esp_push_print_certificates(demo, stdout, false);
    printf("\n");
    double stolen, all, stolen_before, all_before;
    start = now_s();
    read_stolen(&stolen_before, &all_before);
    if (!run_all(demo, reterr)) return false;
    read_stolen(&stolen, &all);
    printf("           in %.0f s, of which a hypervisor gave %.2f %% to other machines\n", now_s() - start,
           all > all_before ? 100.0 * (stolen - stolen_before) / (all - all_before) : 0.0);
    print_results(demo);
    if (!esp_push_write_report(demo) || !esp_push_write_pictures(demo)) {
        *reterr = (esp_client_error){.code = ESP_CLIENT_FILE};
        snprintf(reterr->message, sizeof reterr->message, "the results cannot be written to %s", o->out);
        return false;
    }
    printf("\nwritten    %s/table.md, results.json, error_vs_relus.svg, filmstrip.svg\n", o->out);
    return true;
}

bool esp_push_demo_run(const esp_push_opts *opts, esp_client_error *reterr) {
    esp_push_demo *demo = calloc(1, sizeof *demo);
    if (demo == NULL) {
        *reterr = (esp_client_error){.code = ESP_CLIENT_NOMEM, .message = "no memory for the demo"};
        return false;
    }
    demo->opts = opts;
    double start = now_s();
    bool good = run_stages(demo, reterr);
    if (good) printf("           everything in %.0f s\n", now_s() - start);
    for (int i = 0; i < demo->n_runs; i++) free(demo->run[i].episode);
    esp_client_close(demo->client);
    free(demo);
    return good;
}
