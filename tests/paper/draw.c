/* SPDX-License-Identifier: Apache-2.0
 * Draws what `make paper` has measured, from the tables alone, and writes the tables that a README can show.
 *
 *     draw DIR      reads DIR/{models,plans,piecewise}.csv, whichever are there; writes SVG and DIR/tables.md
 *
 * long_error.svg   the error after many steps against ReLUs, median and quartiles over trials (the paper's figure 3a)
 * plan_cost.svg    the cost of open-loop plans against ReLUs, exact search and MPPI (figure 3b); plan_cost_world.svg: what they cost when carried out
 * step_error.svg   the error of one step against ReLUs, ladder and channel pruning (figure 9)
 * piecewise_error.svg  the error of the piecewise-affine functions against ReLUs, median over seeds (figure 8) */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "paper/table_file.h"
#include "robots/stats.h"
#include "robots/svg.h"

enum { PANELS = 6, WIDTH = 250, HEIGHT = 190, LEFT = 70, TOP = 56, STEP_X = 330, STEP_Y = 292, VALUES = 4096, TICKS = 16 };

#define INK   "#333333"
#define FAINT "#777777"

/* One curve of a figure: which rows, how it looks. */
typedef struct curve_look {
    const char *method, *name, *colour, *dash;
} curve_look;

/* A figure: a panel for each name in the first column. */
typedef struct figure {
    const char *file, *out, *title, *note, *y_label;
    const char *low, *middle, *high; /* columns; where low and high are NULL, the quartiles of middle over rows */
    curve_look looks[2];
    bool dense_in_both; /* rows of method "dense" belong to every curve */
} figure;

#define PRUNING                                                                                                                                      \
    {                                                                                                                                                \
        {"ladder", "Gumbel ladder", "#1b7f4d", NULL}, {                                                                                              \
            "channel", "L1 channel pruning", "#d2691e", "5 3"                                                                                        \
        }                                                                                                                                            \
    }
#define PLANNER                                                                                                                                      \
    {                                                                                                                                                \
        {"mip", "exact (mip)", "#1b7f4d", NULL}, {                                                                                                   \
            "mppi", "MPPI", "#d2691e", "5 3"                                                                                                         \
        }                                                                                                                                            \
    }

static const figure figures[] = {
    {.file = "models.csv",
     .out = "long_error.svg",
     .title = "Prediction error after the last of the steps",
     .note = "open loop, on trajectories that training has not seen; median and quartiles over trials, of several seeds the median",
     .y_label = "error, Euclidean, data units",
     .low = "p25",
     .middle = "p50",
     .high = "p75",
     .looks = PRUNING,
     .dense_in_both = true},
    {.file = "models.csv",
     .out = "step_error.svg",
     .title = "Error of one step",
     .note = "root mean square over outputs on held-out trajectories; median and quartiles over seeds",
     .y_label = "RMSE, data units",
     .middle = "one_step_rmse",
     .looks = PRUNING,
     .dense_in_both = true},
    {.file = "plans.csv",
     .out = "plan_cost.svg",
     .title = "Cost of open-loop plans by their model",
     .note = "what the planner minimises; median and quartiles over trials, the same for both",
     .y_label = "cost",
     .middle = "objective",
     .looks = PLANNER},
    {.file = "plans.csv",
     .out = "plan_cost_world.svg",
     .title = "Cost of the same plans in the simulator",
     .note = "carried out without looking; median and quartiles over trials, the same for both",
     .y_label = "cost",
     .middle = "cost",
     .looks = PLANNER},
    {.file = "piecewise.csv",
     .out = "piecewise_error.svg",
     .title = "Piecewise-affine functions",
     .note = "root mean square error over the square, a share of the range; median and quartiles over seeds",
     .y_label = "RMSE / range",
     .middle = "rmse",
     .looks = PRUNING,
     .dense_in_both = true},
};

/* What a curve has at one number of ReLUs. */
typedef struct point {
    double relu, low, middle, high;
} point;

typedef struct curve {
    int n;
    point at[TICKS];
} curve;

static int by_relu(const void *a, const void *b) {
    double x = ((const point *)a)->relu, y = ((const point *)b)->relu;
    return (x > y) - (x < y);
}

/* Quartiles over rows, or the medians of columns that hold quartiles. */
static point summarise(const figure *f, const table_file *t, const char *panel, const curve_look *look, double relu) {
    static double middle[VALUES], low[VALUES], high[VALUES];
    size_t n = 0;
    for (int r = 0; r < t->n_rows && n < VALUES; r++) {
        const char *method = table_file_text(t, r, "method");
        bool mine = strcmp(method, look->method) == 0 || (f->dense_in_both && strcmp(method, "dense") == 0);
        double value = table_file_number(t, r, f->middle);
        if (!mine || strcmp(table_file_text(t, r, t->column[0]), panel) != 0 || fabs(table_file_number(t, r, "relu") - relu) > 0.5 ||
            !isfinite(value))
            continue;
        middle[n] = value;
        low[n] = f->low ? table_file_number(t, r, f->low) : value;
        high[n] = f->high ? table_file_number(t, r, f->high) : value;
        n++;
    }
    return (point){relu, f->low ? esp_stats_quantile(low, n, 0.5) : esp_stats_quantile(low, n, 0.25), esp_stats_quantile(middle, n, 0.5),
                   f->high ? esp_stats_quantile(high, n, 0.5) : esp_stats_quantile(high, n, 0.75)};
}

static void collect(const figure *f, const table_file *t, const char *panel, const curve_look *look, curve *ret) {
    *ret = (curve){0};
    for (int r = 0; r < t->n_rows; r++) {
        double relu = table_file_number(t, r, "relu");
        int known = 0;
        while (known < ret->n && fabs(ret->at[known].relu - relu) > 0.5) known++;
        if (strcmp(table_file_text(t, r, t->column[0]), panel) != 0 || known < ret->n || ret->n == TICKS) continue;
        ret->at[ret->n] = summarise(f, t, panel, look, relu);
        if (isfinite(ret->at[ret->n].middle)) ret->n++;
    }
    qsort(ret->at, (size_t)ret->n, sizeof *ret->at, by_relu);
}

static void draw_curve(esp_svg *svg, const curve *c, const curve_look *look, const esp_axis *x, const esp_axis *y) {
    double line[2 * TICKS], band[4 * TICKS];
    for (int i = 0; i < c->n; i++) {
        int back = 2 * (2 * c->n - 1 - i);
        line[2 * i] = band[2 * i] = band[back] = esp_axis_map(x, c->at[i].relu);
        line[2 * i + 1] = esp_axis_map(y, c->at[i].middle);
        band[2 * i + 1] = esp_axis_map(y, fmax(c->at[i].low, y->from));
        band[back + 1] = esp_axis_map(y, c->at[i].high);
    }
    esp_svg_path(svg, band, 2 * c->n, true, (esp_style){.fill = look->colour, .opacity = 0.15});
    esp_svg_path(svg, line, c->n, false, (esp_style){.stroke = look->colour, .width = 2.0, .dash = look->dash});
    for (int i = 0; i < c->n; i++) esp_svg_circle(svg, line[2 * i], line[2 * i + 1], 2.8, (esp_style){.fill = look->colour});
}

/* Whole powers of ten around what the curves show. */
static esp_axis error_axis(const curve *curves, double top) {
    double low = INFINITY, high = -INFINITY;
    for (int k = 0; k < 2; k++)
        for (int i = 0; i < curves[k].n; i++) {
            const point *p = &curves[k].at[i];
            low = fmin(low, p->low > 0 ? p->low : p->middle);
            high = fmax(high, p->high);
        }
    return (esp_axis){.from = low / 1.15, .to = high * 1.15, .logarithmic = true, .start = top + HEIGHT, .length = -HEIGHT};
}

/* Ticks at 1, 2 and 5 times powers of ten. */
static void draw_log_ticks(esp_svg *svg, const esp_axis *x, const esp_axis *y) {
    static const double leads[] = {1, 2, 5};
    bool wide = y->to / y->from > 300;
    for (int power = (int)floor(log10(y->from)); power <= (int)ceil(log10(y->to)); power++)
        for (int k = 0; k < (wide ? 1 : 3); k++) {
            double v = leads[k] * pow(10, power), at = esp_axis_map(y, v);
            if (v < y->from || v > y->to) continue;
            esp_svg_line(svg, x->start, at, x->start + x->length, at, (esp_style){.stroke = "#e4e4e4"});
            esp_svg_text(svg, x->start - 6, at + 4, 11, "end", INK, "%.3g", v);
        }
}

static void draw_relu_ticks(esp_svg *svg, const curve *curves, const esp_axis *x, const esp_axis *y) {
    for (int k = 0; k < 2; k++)
        for (int i = 0; i < curves[k].n; i++) {
            double at = esp_axis_map(x, curves[k].at[i].relu);
            esp_svg_line(svg, at, y->start, at, y->start + 4, (esp_style){.stroke = INK});
            if (k == 0) esp_svg_text(svg, at, y->start + 17, 11, "middle", INK, "%g", curves[k].at[i].relu);
        }
    esp_svg_rect(svg, x->start, y->start - HEIGHT, WIDTH, HEIGHT, (esp_style){.stroke = INK});
}

static void draw_panel(esp_svg *svg, const figure *f, const table_file *t, const char *panel, int index) {
    curve curves[2];
    double left = LEFT + STEP_X * (index % 3), top = TOP + 30 + STEP_Y * (index / 3);
    for (int k = 0; k < 2; k++) collect(f, t, panel, &f->looks[k], &curves[k]);
    if (!curves[0].n) return;
    double least = curves[0].at[0].relu, most = curves[0].at[curves[0].n - 1].relu;
    esp_axis x = {.from = fmax(least, 1) / 1.2, .to = most * 1.2, .logarithmic = true, .start = left, .length = WIDTH}, y = error_axis(curves, top);
    esp_svg_title(svg, left, top - 8, 13, panel);
    draw_log_ticks(svg, &x, &y);
    draw_relu_ticks(svg, curves, &x, &y);
    esp_svg_clip(svg, left, top, WIDTH, HEIGHT);
    for (int k = 1; k >= 0; k--) draw_curve(svg, &curves[k], &f->looks[k], &x, &y);
    esp_svg_clip_end(svg);
    esp_svg_text(svg, left + WIDTH / 2.0, top + HEIGHT + 33, 11, "middle", FAINT, "ReLUs");
    esp_svg_text_up(svg, left - 46, top + HEIGHT / 2.0, 11, FAINT, f->y_label);
}

static int panels_of(const table_file *t, const char *ret_panel[PANELS]) {
    int n = 0;
    for (int r = 0; r < t->n_rows; r++) {
        const char *name = table_file_text(t, r, t->column[0]);
        int known = 0;
        while (known < n && strcmp(ret_panel[known], name) != 0) known++;
        if (known == n && n < PANELS) ret_panel[n++] = name;
    }
    return n;
}

static bool draw_figure(const figure *f, const table_file *t, const char *directory) {
    const char *panel[PANELS];
    char path[1024];
    esp_svg svg;
    int n = panels_of(t, panel), columns = n < 3 ? n : 3, rows = (n + 2) / 3;
    snprintf(path, sizeof path, "%s/%s", directory, f->out);
    if (!esp_svg_open(path, fmax(LEFT + STEP_X * columns, 700), TOP + STEP_Y * rows, &svg)) return false;
    esp_svg_title(&svg, 16, 24, 15, f->title);
    esp_svg_text(&svg, 16, 43, 11, "start", FAINT, "%s", f->note);
    for (int k = 0; k < 2; k++) {
        double at = 400 + 120 * k;
        esp_svg_line(&svg, at, 20, at + 22, 20, (esp_style){.stroke = f->looks[k].colour, .width = 2.0, .dash = f->looks[k].dash});
        esp_svg_text(&svg, at + 27, 24, 11, "start", INK, "%s", f->looks[k].name);
    }
    for (int i = 0; i < n; i++) draw_panel(&svg, f, t, panel[i], i);
    return esp_svg_close(&svg);
}

/* ---- tables ------------------------------------------------------------------------------------------------------------ */

static void write_table(FILE *out, const figure *f, const table_file *t) {
    const char *panel[PANELS];
    int n = panels_of(t, panel);
    fprintf(out, "## %s\n\n%s; quartiles in brackets.\n", f->title, f->note);
    for (int i = 0; i < n; i++) {
        curve curves[2];
        for (int k = 0; k < 2; k++) collect(f, t, panel[i], &f->looks[k], &curves[k]);
        fprintf(out, "\n| %s, ReLUs |", panel[i]);
        for (int j = curves[0].n; j-- > 0;) fprintf(out, " %g |", curves[0].at[j].relu);
        fprintf(out, "\n|:--|");
        for (int j = 0; j < curves[0].n; j++) fprintf(out, "--:|");
        for (int k = 0; k < 2; k++) {
            fprintf(out, "\n| %s |", f->looks[k].name);
            for (int j = curves[k].n; j-- > 0;)
                fprintf(out, " %.3g [%.3g, %.3g] |", curves[k].at[j].middle, curves[k].at[j].low, curves[k].at[j].high);
        }
        fprintf(out, "\n");
    }
    fprintf(out, "\n");
}

/* How many seeds of each function were recovered with 2 ReLUs: by the ladder, by channel pruning. */
static void write_recovered(FILE *out, const table_file *t) {
    const char *panel[PANELS];
    int n = panels_of(t, panel);
    fprintf(out, "## Recovered with 2 ReLUs\n\nRMSE under 1 %% of the range. Regions: the largest share of the square in a wrong region over those "
                 "seeds.\n\n");
    fprintf(out, "| function | ladder | largest RMSE of these | regions | slopes | attempts, mean | channel pruning | its smallest RMSE |\n");
    fprintf(out, "|:--|--:|--:|--:|--:|--:|--:|--:|\n");
    for (int i = 0; i < n; i++) {
        int seeds = 0, good = 0, channel = 0;
        double rmse = 0, regions = 0, slopes = 0, attempts = 0, best = INFINITY;
        for (int r = 0; r < t->n_rows; r++) {
            double value = table_file_number(t, r, "rmse");
            if (strcmp(table_file_text(t, r, "function"), panel[i]) != 0 || table_file_number(t, r, "relu") > 2) continue;
            if (strcmp(table_file_text(t, r, "method"), "channel") == 0) {
                channel += value < 0.01;
                best = fmin(best, value);
                continue;
            }
            seeds++;
            attempts += table_file_number(t, r, "attempts");
            if (value >= 0.01) continue;
            good++;
            rmse = fmax(rmse, value);
            regions = fmax(regions, table_file_number(t, r, "regions"));
            slopes = fmax(slopes, table_file_number(t, r, "slopes"));
        }
        fprintf(out, "| %s | %d of %d | %.2f %% | %.2f %% | %.1f %% | %.1f | %d | %.1f %% |\n", panel[i], good, seeds, 100 * rmse, 100 * regions,
                100 * slopes, attempts / seeds, channel, 100 * best);
    }
    fprintf(out, "\n");
}

/* ---- plans of both methods for the same trial ---- */

typedef struct pairs {
    const char *robot;
    double relu;
    int n, without; /* trials with a plan by each; trials that one of them had none for in time */
    int mip_cheaper, mppi_cheaper, mip_better, mppi_better, optimal; /* cheaper: by the model; better: in the world */
    double excess[VALUES]; /* of MPPI's cost by the model over that of exact search, a share of the latter */
} pairs;

/* The row of MPPI for the trial of row r; -1 when there is none. */
static int partner(const table_file *t, int r) {
    static const char *const keys[] = {"robot", "seed", "relu", "trial"};
    for (int other = 0; other < t->n_rows; other++) {
        bool same = strcmp(table_file_text(t, other, "method"), "mppi") == 0;
        for (int k = 0; k < 4; k++) same = same && strcmp(table_file_text(t, other, keys[k]), table_file_text(t, r, keys[k])) == 0;
        if (same) return other;
    }
    return -1;
}

static void add_pair(pairs *p, const table_file *t, int r) {
    int other = partner(t, r);
    if (other < 0 || p->n == VALUES) return;
    double a = table_file_number(t, r, "objective"), b = table_file_number(t, other, "objective");
    double c = table_file_number(t, r, "cost"), d = table_file_number(t, other, "cost");
    if (!isfinite(a + b)) {
        p->without++;
        return;
    }
    p->excess[p->n++] = b / a - 1;
    p->mip_cheaper += a < b - 1e-6 * fabs(b);
    p->mppi_cheaper += b < a - 1e-6 * fabs(a);
    p->mip_better += c < d - 1e-6 * fabs(d);
    p->mppi_better += d < c - 1e-6 * fabs(c);
    p->optimal += strcmp(table_file_text(t, r, "status"), "optimal") == 0;
}

static void put_pairs(FILE *out, const pairs *p) {
    if (p->n + p->without == 0) return;
    fprintf(out, "| %s | %g | %d | %d | %d | %d | %.2f %% | %d | %d | %d |\n", p->robot, p->relu, p->n, p->without, p->mip_cheaper, p->mppi_cheaper,
            100 * esp_stats_mean(p->excess, (size_t)p->n), p->optimal, p->mip_better, p->mppi_better);
}

static void write_pairs(FILE *out, const table_file *t) {
    static pairs p;
    fprintf(
        out,
        "## Exact search against MPPI, trial by trial\n\nOpen-loop plans of the same trial on the same model; ties are within 1e-6, relative.\n\n");
    fprintf(out, "| robot | ReLUs | trials | without a plan in time | by the model: mip cheaper | mppi cheaper | mppi dearer by, mean | mip proved "
                 "optimal | in the world: mip "
                 "cheaper | mppi cheaper |\n|:--|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n");
    p = (pairs){.robot = ""};
    for (int r = 0; r < t->n_rows; r++) {
        const char *robot = table_file_text(t, r, "robot");
        double relu = table_file_number(t, r, "relu");
        if (strcmp(table_file_text(t, r, "method"), "mip") != 0) continue;
        if (strcmp(robot, p.robot) != 0 || fabs(relu - p.relu) > 0.5) {
            put_pairs(out, &p);
            p = (pairs){.robot = robot, .relu = relu};
        }
        add_pair(&p, t, r);
    }
    put_pairs(out, &p);
    fprintf(out, "\n");
}

int main(int argc, char **argv) {
    char path[1024];
    if (argc != 2) {
        fprintf(stderr, "usage: draw DIR\n");
        return 2;
    }
    snprintf(path, sizeof path, "%s/tables.md", argv[1]);
    FILE *out = fopen(path, "w");
    bool good = out != NULL;
    if (good) fprintf(out, "# The tables behind the pictures\n\nWritten by `make paper` from the CSV files beside it.\n\n");
    for (size_t i = 0; good && i < sizeof figures / sizeof *figures; i++) {
        const figure *f = &figures[i];
        table_file t;
        snprintf(path, sizeof path, "%s/%s", argv[1], f->file);
        if (!table_file_read(path, &t)) {
            good = errno == ENOENT; /* not measured */
            continue;
        }
        good = draw_figure(f, &t, argv[1]);
        write_table(out, f, &t);
        if (strcmp(f->out, "plan_cost_world.svg") == 0) write_pairs(out, &t);
        if (strcmp(f->file, "piecewise.csv") == 0) write_recovered(out, &t);
        table_file_free(&t);
    }
    if (out != NULL) good = fclose(out) == 0 && good;
    if (!good) fprintf(stderr, "draw: %s: cannot be read or written\n", path);
    return good ? 0 : 1;
}
