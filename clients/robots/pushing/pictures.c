/* SPDX-License-Identifier: Apache-2.0
 * The demo's two pictures (demo.h): error against ReLUs, and a filmstrip of one episode. */
#include <math.h>
#include <string.h>

#include "robots/pushing/demo.h"
#include "robots/svg.h"

#define PX    100.0
#define INK   "#333333"
#define FAINT "#8a8a8a"

static const char *method_colour(const char *method) {
    if (strcmp(method, "mip") == 0) return "#1b7f4d";
    return strcmp(method, "mppi") == 0 ? "#d2691e" : "#6a4fa3";
}

/* ---- error against ReLUs ----------------------------------------------------------------------------------------- */

static esp_axis relu_axis(const esp_push_demo *demo, double start, double length) {
    double from = demo->model[0].relu, to = from;
    for (int i = 1; i < demo->n_models; i++) {
        from = fmin(from, demo->model[i].relu);
        to = fmax(to, demo->model[i].relu);
    }
    return (esp_axis){.from = fmax(from, 1.0) / 1.12, .to = fmax(to, 2.0) * 1.12, .logarithmic = true, .start = start, .length = length};
}

static void draw_relu_axes(esp_svg *svg, const esp_push_demo *demo, const esp_axis *x, const esp_axis *y) {
    double ticks[ESP_PUSH_MAX_MODELS];
    for (int i = 0; i < demo->n_models; i++) ticks[i] = demo->model[i].relu;
    esp_svg_axes(svg, x, y, ticks, demo->n_models);
}

static void draw_rmse(esp_svg *svg, const esp_push_demo *demo) {
    esp_axis x = relu_axis(demo, 80, 620), y = {.from = 0.0, .start = 230, .length = -160};
    double points[2 * ESP_PUSH_MAX_MODELS];
    for (int i = 0; i < demo->n_models; i++) y.to = fmax(y.to, 1.15 * PX * demo->model[i].rmse);
    esp_svg_title(svg, 80, 30, 15, "Prediction: error one step ahead");
    esp_svg_text(svg, 80, 49, 12, "start", FAINT, "validation data, root mean square over keypoint coordinates");
    draw_relu_axes(svg, demo, &x, &y);
    esp_svg_text_up(svg, 28, 150, 13, INK, "RMSE, px");
    for (int i = 0; i < demo->n_models; i++) {
        points[2 * i] = esp_axis_map(&x, demo->model[i].relu);
        points[2 * i + 1] = esp_axis_map(&y, PX * demo->model[i].rmse);
    }
    esp_svg_path(svg, points, demo->n_models, false, (esp_style){.stroke = INK, .width = 1.5});
    for (int i = 0; i < demo->n_models; i++) esp_svg_circle(svg, points[2 * i], points[2 * i + 1], 4, (esp_style){.fill = INK});
}

/* Runs on one model stand side by side. */
static double run_offset(const esp_push_demo *demo, int run) {
    int before = 0, all = 0;
    for (int i = 0; i < demo->n_runs; i++) {
        if (demo->run[i].model != demo->run[run].model) continue;
        before += i < run;
        all++;
    }
    return 13.0 * (before - (all - 1) / 2.0);
}

static void draw_run(esp_svg *svg, const esp_push_run *run, double at, const esp_axis *y) {
    const char *colour = method_colour(run->method);
    double q1 = esp_axis_map(y, PX * run->error_quartile[0]), q2 = esp_axis_map(y, PX * run->error_quartile[1]);
    double q3 = esp_axis_map(y, PX * run->error_quartile[2]), mean = esp_axis_map(y, PX * run->error_mean);
    esp_svg_line(svg, at, q1, at, q3, (esp_style){.stroke = colour, .width = 3, .opacity = 0.55});
    esp_svg_line(svg, at - 5, q1, at + 5, q1, (esp_style){.stroke = colour, .width = 1.5});
    esp_svg_line(svg, at - 5, q3, at + 5, q3, (esp_style){.stroke = colour, .width = 1.5});
    esp_svg_circle(svg, at, q2, 4.5, (esp_style){.fill = colour});
    esp_svg_path(svg, (double[]){at - 5, mean, at, mean - 5, at + 5, mean, at, mean + 5}, 4, true,
                 (esp_style){.fill = "white", .stroke = colour, .width = 1.5});
}

static void draw_legend(esp_svg *svg, double x, double y) {
    static const char *const methods[] = {"mip", "mppi", "cem"};
    for (int i = 0; i < 3; i++) {
        esp_svg_circle(svg, x, y - 4, 4.5, (esp_style){.fill = method_colour(methods[i])});
        esp_svg_text(svg, x + 11, y, 12, "start", INK, "%s", esp_push_method_name(methods[i]));
        x += i == 0 ? 110 : 75;
    }
}

static void draw_closed_loop(esp_svg *svg, const esp_push_demo *demo) {
    esp_axis x = relu_axis(demo, 80, 620), y = {.from = 0.0, .start = 560, .length = -210};
    for (int i = 0; i < demo->n_runs; i++) y.to = fmax(y.to, 1.1 * PX * fmax(demo->run[i].error_quartile[2], demo->run[i].error_mean));
    if (y.to <= 0.0) y.to = 1.0;
    esp_svg_title(svg, 80, 305, 15, "Closed loop: distance to the goal at the end");
    esp_svg_text(svg, 80, 324, 12, "start", FAINT, "%d episodes; dot median, bar quartiles, diamond mean", demo->opts->episodes);
    draw_legend(svg, 450, 324);
    draw_relu_axes(svg, demo, &x, &y);
    esp_svg_text_up(svg, 28, 455, 13, INK, "keypoint error, px");
    esp_svg_text(svg, 390, 602, 13, "middle", INK, "ReLUs left in the model");
    for (int i = 0; i < demo->n_runs; i++)
        draw_run(svg, &demo->run[i], esp_axis_map(&x, demo->model[demo->run[i].model].relu) + run_offset(demo, i), &y);
}

static bool write_error_plot(const esp_push_demo *demo, const char *path) {
    esp_svg svg;
    if (!esp_svg_open(path, 740, 620, &svg)) return false;
    draw_rmse(&svg, demo);
    draw_closed_loop(&svg, demo);
    return esp_svg_close(&svg);
}

/* ---- filmstrip --------------------------------------------------------------------------------------------------- */

#define FRAMES  6
#define PANEL_W 180.0

/* The part of the plane shown, and where on the page. */
typedef struct window {
    double x0, y0, scale; /* world left and bottom; page px per unit */
    double left, bottom, height;
} window;

static void place(const window *w, const double *world, int n, double *ret_page) {
    for (int i = 0; i < n; i++) {
        ret_page[2 * i] = w->left + w->scale * (world[2 * i] - w->x0);
        ret_page[2 * i + 1] = w->bottom - w->scale * (world[2 * i + 1] - w->y0);
    }
}

static void get_pusher(const double *y, double ret_pusher[2]) {
    for (int i = 0; i < 2; i++) ret_pusher[i] = y[i] - y[ESP_PUSH_NK + i];
}

static void draw_box(esp_svg *svg, const window *w, const double *corners, esp_style style) {
    double page[ESP_PUSH_NK];
    place(w, corners, ESP_PUSH_KEYPOINTS, page);
    esp_svg_path(svg, page, ESP_PUSH_KEYPOINTS, true, style);
}

static const double *episode_y(const esp_push_episode *episode, int t) {
    return t < episode->n_steps ? episode->step[t].y : episode->y_end;
}

static void widen(double *box, const double *points, int n) {
    for (int i = 0; i < n; i++) {
        double v = points[i];
        box[i % 2] = fmin(box[i % 2], v);
        box[2 + i % 2] = fmax(box[2 + i % 2], v);
    }
}

/* x from, y from, x to, y to over everything the episode shows. */
static void widen_by_episode(double *box, const esp_push_episode *episode) {
    double goal[ESP_PUSH_NK], pusher[2];
    esp_push_corners(episode->goal, goal);
    widen(box, goal, ESP_PUSH_NK);
    for (int t = 0; t <= episode->n_steps; t++) {
        const double *y = episode_y(episode, t);
        get_pusher(y, pusher);
        widen(box, y, ESP_PUSH_NK);
        widen(box, pusher, 2);
        for (int h = 0; t < episode->n_steps && h < episode->step[t].n_predicted; h++)
            widen(box, episode->step[t].predicted + h * ESP_PUSH_NY, ESP_PUSH_NK);
    }
}

static void draw_plan(esp_svg *svg, const window *w, const esp_push_record *record, const char *colour) {
    double pushers[2 * (ESP_PUSH_MAX_HORIZON + 1)], page[2 * (ESP_PUSH_MAX_HORIZON + 1)];
    get_pusher(record->y, pushers);
    for (int h = 0; h < record->n_predicted; h++) {
        const double *y = record->predicted + h * ESP_PUSH_NY;
        get_pusher(y, pushers + 2 * (h + 1));
        draw_box(svg, w, y, (esp_style){.stroke = colour, .width = 1, .opacity = 0.75 - 0.1 * fmin(h, 5)});
    }
    place(w, pushers, record->n_predicted + 1, page);
    esp_svg_path(svg, page, record->n_predicted + 1, false, (esp_style){.stroke = colour, .width = 1.2, .dash = "3 2"});
    for (int h = 1; h <= record->n_predicted; h++) esp_svg_circle(svg, page[2 * h], page[2 * h + 1], 1.8, (esp_style){.fill = colour});
}

static void draw_frame(esp_svg *svg, const window *w, const esp_push_episode *episode, int t, const char *colour) {
    const double *y = episode_y(episode, t);
    double goal[ESP_PUSH_NK], pusher[2], page[ESP_PUSH_NK], trail[2 * (ESP_PUSH_MAX_STEPS + 1)], trail_page[2 * (ESP_PUSH_MAX_STEPS + 1)];
    esp_svg_rect(svg, w->left, w->bottom - w->height, PANEL_W, w->height, (esp_style){.fill = "#fafafa", .stroke = "#cccccc"});
    esp_svg_clip(svg, w->left, w->bottom - w->height, PANEL_W, w->height);
    esp_push_corners(episode->goal, goal);
    draw_box(svg, w, goal, (esp_style){.fill = "#fff2b8", .stroke = "#b8930b", .width = 1.5, .dash = "5 3"});
    for (int i = 0; i <= t; i++) get_pusher(episode_y(episode, i), trail + 2 * i);
    place(w, trail, t + 1, trail_page);
    if (t > 0) esp_svg_path(svg, trail_page, t + 1, false, (esp_style){.stroke = "#bbbbbb", .width = 1});
    draw_box(svg, w, y, (esp_style){.fill = "#5b8fc7", .stroke = "#2f5f93", .width = 1.2, .opacity = 0.85});
    /* the first keypoint of box and goal, so that the turn can be seen */
    place(w, goal, 1, page);
    esp_svg_circle(svg, page[0], page[1], 3, (esp_style){.fill = "#b8930b"});
    place(w, y, 1, page);
    esp_svg_circle(svg, page[0], page[1], 3, (esp_style){.fill = "#17375c"});
    if (t < episode->n_steps) draw_plan(svg, w, &episode->step[t], colour);
    get_pusher(y, pusher);
    place(w, pusher, 1, page);
    esp_svg_circle(svg, page[0], page[1], ESP_PUSH_RADIUS * w->scale, (esp_style){.fill = "#c0392b", .stroke = "#7b241c"});
    esp_svg_clip_end(svg);
    esp_svg_text(svg, w->left + PANEL_W / 2, w->bottom + 16, 12, "middle", INK,
                 t < episode->n_steps ? "step %d, %.1f px off" : "end (%d), %.1f px off", t, PX * esp_push_error(y, episode->goal));
}

/* The run of exact planning with the smallest error, and the best of the others. */
static const esp_push_run *pick_run(const esp_push_demo *demo, bool exact) {
    const esp_push_run *best = NULL;
    for (int i = 0; i < demo->n_runs; i++) {
        const esp_push_run *r = &demo->run[i];
        if ((strcmp(r->method, "mip") == 0) == exact && (best == NULL || r->error_mean < best->error_mean)) best = r;
    }
    return best;
}

/* The episode in the middle of the run's errors: neither the prettiest nor the worst. */
static int middle_episode(const esp_push_run *run) {
    for (int e = 0; e < run->n_episodes; e++) {
        int below = 0;
        for (int i = 0; i < run->n_episodes; i++)
            below += run->episode[i].error < run->episode[e].error || (run->episode[i].error <= run->episode[e].error && i < e);
        if (below == run->n_episodes / 2) return e;
    }
    return 0;
}

static bool write_filmstrip(const esp_push_demo *demo, const char *path) {
    const esp_push_run *runs[2] = {pick_run(demo, true), pick_run(demo, false)};
    if (runs[0] == NULL || runs[1] == NULL) return true;
    int index = middle_episode(runs[0]);
    double box[4] = {INFINITY, INFINITY, -INFINITY, -INFINITY};
    for (int i = 0; i < 2; i++) widen_by_episode(box, &runs[i]->episode[index]);
    const double pad = 0.12;
    window w = {.x0 = box[0] - pad, .y0 = box[1] - pad, .scale = PANEL_W / (box[2] - box[0] + 2 * pad)};
    w.height = w.scale * (box[3] - box[1] + 2 * pad);
    double row = w.height + 70;
    esp_svg svg;
    if (!esp_svg_open(path, 20 + FRAMES * (PANEL_W + 12) + 8, 62 + 2 * row, &svg)) return false;
    esp_svg_title(&svg, 20, 26, 15, "One episode of pushing the box (blue) to its goal (yellow)");
    esp_svg_text(
        &svg, 20, 45, 12, "start", FAINT,
        "episode %d, the middle one of exact planning's; outlines and dotted path: the plan made at that step; grey: where the pusher (red) has been",
        index + 1);
    for (int i = 0; i < 2; i++) {
        const esp_push_episode *episode = &runs[i]->episode[index];
        double top = 62 + i * row;
        esp_svg_text(&svg, 20, top + 14, 13, "start", method_colour(runs[i]->method), "%s on %d ReLUs", esp_push_method_name(runs[i]->method),
                     demo->model[runs[i]->model].relu);
        for (int f = 0; f < FRAMES; f++) {
            w.left = 20 + f * (PANEL_W + 12);
            w.bottom = top + 22 + w.height;
            draw_frame(&svg, &w, episode, (f * episode->n_steps + (FRAMES - 1) / 2) / (FRAMES - 1), method_colour(runs[i]->method));
        }
    }
    return esp_svg_close(&svg);
}

bool esp_push_write_pictures(const esp_push_demo *demo) {
    char path[1024];
    snprintf(path, sizeof path, "%s/error_vs_relus.svg", demo->opts->out);
    if (!write_error_plot(demo, path)) return false;
    snprintf(path, sizeof path, "%s/filmstrip.svg", demo->opts->out);
    return write_filmstrip(demo, path);
}
