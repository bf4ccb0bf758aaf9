/* SPDX-License-Identifier: Apache-2.0
 * What the paper's figures are computed with: the piecewise-affine functions, the distance of a model to one, tables. */
#include <check.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "paper/pieces.h"
#include "paper/table_file.h"

/* The function itself as a program of inputs y, u1, u2; `shift` moves its first line, `lift` its value. */
static esp_program exact(const esp_pieces *f, double shift, double lift, double *memory) {
    static int end[2] = {1, 2}, begin[2] = {0, 0};
    double *a = memory, *b = a + 3, *c0 = b + 2, *c = c0 + 1, *d = c + 6, *d0 = d + 4;
    memset(memory, 0, 20 * sizeof *memory);
    c0[0] = f->c + lift;
    for (int i = 0; i < 2; i++) {
        a[1 + i] = f->a[i];
        b[i] = f->b[i];
        d0[i] = f->d[i] + (i ? 0 : shift);
        for (int j = 0; j < 2; j++) c[3 * i + 1 + j] = f->w[i][j];
    }
    d[2] = f->e;
    return (esp_program){3, 2, 1, a, b, c0, c, d, d0, 2, end, begin};
}

START_TEST(pieces__a_function_is_no_distance_from_itself) {
    const esp_pieces *f = &esp_pieces_functions[_i];
    double memory[20];
    esp_error error;
    esp_program same = exact(f, 0, 0, memory);
    esp_pieces_distance distance;
    ck_assert_int_eq(esp_pieces_measure(f, &same, &distance, &error), ESP_OK);
    ck_assert_double_lt(distance.rmse, 1e-14);
    ck_assert_double_lt(distance.largest, 1e-14);
    ck_assert_double_lt(distance.slopes, 1e-14);
    ck_assert(distance.regions == 0 && distance.n_regions == 4);
}
END_TEST

START_TEST(pieces__distances_are_what_they_say) {
    const esp_pieces *f = &esp_pieces_functions[_i];
    double memory[20], low = INFINITY, high = -INFINITY;
    esp_error error;
    esp_pieces_distance distance;
    for (int i = 0; i <= 200; i++)
        for (int j = 0; j <= 200; j++) {
            double value = esp_pieces_value(f, (double[]){i / 100.0 - 1, j / 100.0 - 1}, NULL, NULL);
            low = fmin(low, value);
            high = fmax(high, value);
        }
    esp_program lifted = exact(f, 0, 0.25, memory);
    ck_assert_int_eq(esp_pieces_measure(f, &lifted, &distance, &error), ESP_OK);
    ck_assert_double_eq_tol(distance.rmse, 0.25 / (high - low), 1e-12);
    ck_assert_double_eq_tol(distance.largest, 0.25 / (high - low), 1e-12);
    ck_assert(distance.regions == 0);
    /* the first line moved by 0.1: the strip between the two is wrong, about 0.1 / |w| * its length of a square of 4 */
    esp_program moved = exact(f, 0.1, 0, memory);
    ck_assert_int_eq(esp_pieces_measure(f, &moved, &distance, &error), ESP_OK);
    ck_assert_double_gt(distance.regions, 0.8 * 0.1 * 2 / 4);
    ck_assert_double_lt(distance.regions, 2.5 * 0.1 * 2 / 4);
    ck_assert_double_gt(distance.slopes, 0.05);
}
END_TEST

START_TEST(pieces__gradients_are_differences) {
    const esp_pieces *f = &esp_pieces_functions[_i];
    const double h = 1e-6;
    for (int i = 0; i < 40; i++) {
        double x[2] = {0.9 * sin(3.1 * i + 0.2), 0.9 * cos(1.7 * i)}, slope[2];
        int piece, near[4];
        double value = esp_pieces_value(f, x, &piece, slope), east = esp_pieces_value(f, (double[]){x[0] + h, x[1]}, &near[0], NULL);
        double west = esp_pieces_value(f, (double[]){x[0] - h, x[1]}, &near[1], NULL),
               up = esp_pieces_value(f, (double[]){x[0], x[1] + h}, &near[2], NULL);
        double down = esp_pieces_value(f, (double[]){x[0], x[1] - h}, &near[3], NULL);
        for (int k = 0; k < 4; k++)
            if (near[k] != piece) value = NAN; /* across a line */
        if (isnan(value)) continue;
        ck_assert_double_eq_tol((east - west) / (2 * h), slope[0], 1e-8);
        ck_assert_double_eq_tol((up - down) / (2 * h), slope[1], 1e-8);
    }
}
END_TEST

static bool read_text(const char *text, table_file *ret) {
    char path[] = "/tmp/espalier-table.XXXXXX";
    int fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
    bool good = table_file_read(path, ret);
    int why = errno;
    unlink(path);
    errno = why;
    return good;
}

START_TEST(tables__are_read_by_column) {
    table_file t;
    ck_assert(read_text("robot,relu,rmse\nrope,36,0.25\npushing,8,nothing\n", &t));
    ck_assert_int_eq(t.n_rows, 2);
    ck_assert_str_eq(table_file_text(&t, 1, "robot"), "pushing");
    ck_assert(table_file_number(&t, 0, "rmse") == 0.25);
    ck_assert(isnan(table_file_number(&t, 1, "rmse")));
    ck_assert_str_eq(table_file_text(&t, 0, "colour"), "");
    ck_assert(isnan(table_file_number(&t, 0, "colour")));
    table_file_free(&t);
}
END_TEST

START_TEST(tables__odd_ones_are_refused) {
    table_file t;
    ck_assert(!read_text("a,b\n1\n", &t));
    ck_assert_int_eq(errno, EINVAL);
    ck_assert(!read_text("a,b\n1,2,3\n", &t));
    ck_assert(!read_text("", &t));
    ck_assert(!table_file_read("/nonexistent/table.csv", &t));
    ck_assert_int_eq(errno, ENOENT);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("paper");
    TCase *pieces = tcase_create("pieces"), *tables = tcase_create("tables");
    tcase_add_loop_test(pieces, pieces__a_function_is_no_distance_from_itself, 0, ESP_PIECES_FUNCTIONS);
    tcase_add_loop_test(pieces, pieces__distances_are_what_they_say, 0, ESP_PIECES_FUNCTIONS);
    tcase_add_loop_test(pieces, pieces__gradients_are_differences, 0, ESP_PIECES_FUNCTIONS);
    tcase_add_test(tables, tables__are_read_by_column);
    tcase_add_test(tables, tables__odd_ones_are_refused);
    suite_add_tcase(suite, pieces);
    suite_add_tcase(suite, tables);
    return run_suite(suite);
}
