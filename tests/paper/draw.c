/* SPDX-License-Identifier: Apache-2.0
 * Draws what `make paper` has measured, from the tables alone, and writes the tables that a README can show.
 *
 *     draw DIR      reads DIR/{models,plans,piecewise}.csv, whichever are there; writes SVG and DIR/tables.md
 *
 * long_error.svg   the error after many steps against ReLUs, median and quartiles over trials (the paper's figure 3a)
 * plan_cost.svg    the cost of open-loop plans against ReLUs, exact search and MPPI (figure 3b)
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
    const char *relu; /* column */
    const char *low, *middle, *high; /* columns; low and high NULL: none. Of middle, the median over rows */
    curve_look looks[2];
    bool dense_in_both; /* rows of method "dense" belong to every curve */
} figure;

static const figure figures[] = {
    {"models.csv",
     "long_error.svg",
     "Prediction error at the last of the steps, open loop",
     "median and quartiles over trials that training has not seen",
     "error, Euclidean, data units",
     "relu",
     "p25",
     "p50",
     "p75",
     {{"ladder", "Gumbel ladder", "#1b7f4d", NULL}, {"channel", "L1 channel pruning", "#d2691e", "5 3"}},
     true},
    {"models.csv",
     "step_error.svg",
     "Error of one step",
     "root mean square over outputs on held-out trajectories, median over seeds",
     "RMSE, data units",
     "relu",
     NULL,
     "one_step_rmse",
     NULL,
     {{"ladder", "Gumbel ladder", "#1b7f4d", NULL}, {"channel", "L1 channel pruning", "#d2691e", "5 3"}},
     true},
    {"plans.csv",
     "plan_cost.svg",
     "Cost of open-loop plans carried out in the simulator",
     "median and quartiles over trials, the same for both",
     "cost",
     "relu",
     NULL,
     "cost",
     NULL,
     {{"mip", "exact (mip)", "#1b7f4d", NULL}, {"mppi", "MPPI", "#d2691e", "5 3"}},
     false},
    {"piecewise.csv",
     "piecewise_error.svg",
     "Piecewise-affine functions",
     "root mean square error over the square, a share of the range; median over seeds",
     "RMSE / range",
     "relu",
     NULL,
     "rmse",
     NULL,
     {{"ladder", "Gumbel ladder", "#1b7f4d", NULL}, {"channel", "L1 channel pruning", "#d2691e", "5 3"}},
     true},
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
        if (!mine || strcmp(table_file_text(t, r, t->column[0]), panel) != 0 || fabs(table_file_number(t, r, f->relu) - relu) > 0.5 ||
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
        double relu = table_file_number(t, r, f->relu);
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
    if (!esp_svg_open(path, fmax(LEFT + STEP_X * columns, 640), TOP + STEP_Y * rows, &svg)) return false;
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
    fprintf(out, "## %s\n\n%s%s.\n", f->title, f->note, f->low ? "" : "; quartiles over rows in brackets");
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

/* Plans of both methods for the same trial: which was cheaper, by its model and in the world, and what was proved. */
static void write_pairs(FILE *out, const table_file *t) {
    fprintf(out, "## Exact search against MPPI, trial by trial\n\nOpen-loop plans of the same trial on the same model. Cheaper: by more than 1e-6, "
                 "relative.\n\n");
    fprintf(out,
            "| robot | ReLUs | trials | by its model: mip cheaper | mppi cheaper | in the world: mip cheaper | mppi cheaper | proved optimal |\n");
    fprintf(out, "|:--|--:|--:|--:|--:|--:|--:|--:|\n");
    const char *robot = "";
    double relu = -1;
    int count[6] = {0};
    for (int r = 0; r <= t->n_rows; r++) {
        bool same = r < t->n_rows && strcmp(table_file_text(t, r, "robot"), robot) == 0 && fabs(table_file_number(t, r, "relu") - relu) < 0.5;
        if (!same && count[0] > 0)
            fprintf(out, "| %s | %g | %d | %d | %d | %d | %d | %d |\n", robot, relu, count[0], count[1], count[2], count[3], count[4], count[5]);
        if (r == t->n_rows) break;
        if (!same) {
            memset(count, 0, sizeof count);
            robot = table_file_text(t, r, "robot");
            relu = table_file_number(t, r, "relu");
        }
        if (strcmp(table_file_text(t, r, "method"), "mip") != 0) continue;
        count[5] += strcmp(table_file_text(t, r, "status"), "optimal") == 0;
        for (int other = r + 1; other < t->n_rows; other++) {
            static const char *const keys[] = {"robot", "seed", "relu", "trial"};
            bool pair = strcmp(table_file_text(t, other, "method"), "mppi") == 0;
            for (int k = 0; k < 4; k++) pair = pair && strcmp(table_file_text(t, other, keys[k]), table_file_text(t, r, keys[k])) == 0;
            if (!pair) continue;
            double a = table_file_number(t, r, "objective"), b = table_file_number(t, other, "objective");
            double c = table_file_number(t, r, "cost"), d = table_file_number(t, other, "cost");
            count[0]++;
            count[1] += a < b - 1e-6 * fabs(b);
            count[2] += b < a - 1e-6 * fabs(a);
            count[3] += c < d - 1e-6 * fabs(d);
            count[4] += d < c - 1e-6 * fabs(c);
            break;
        }
    }
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
        if (strcmp(f->file, "plans.csv") == 0) write_pairs(out, &t);
        if (strcmp(f->file, "piecewise.csv") == 0) write_recovered(out, &t);
        table_file_free(&t);
    }
    if (out != NULL) good = fclose(out) == 0 && good;
    if (!good) fprintf(stderr, "draw: %s: cannot be read or written\n", path);
    return good ? 0 : 1;
}
