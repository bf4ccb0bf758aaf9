/* SPDX-License-Identifier: Apache-2.0
 * The examples of schema/api/openapi.json: they conform to their schemas, the library's own parsers read them, what the
 * schemas refuse the parsers refuse, and the numbers agree with each other. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "net/model.h"
#include "plan/task.h"
#include "sparsify/prune.h"
#include "support/schema.h"
#include "train/distill.h"
#include "train/train.h"

static esp_reader document;
static char why[1024];

static void open_document(void) {
    const esp_json *json = schema_openapi(why, sizeof why);
    ck_assert_msg(json != NULL, "%s", why);
    document = esp_reader_root(json);
}

static esp_reader at(const char *pointer) {
    esp_reader found = schema_resolve(&document, pointer);
    ck_assert_msg(found.value != NULL, "nothing at %s", pointer);
    return found;
}

/* ---- conforming ---- */

static size_t check_lines(const esp_reader *schema, const char *text, const char *where) {
    size_t n = 0;
    for (const char *p = text; *p; n++) {
        size_t len = strcspn(p, "\n");
        esp_json *json = NULL;
        esp_error error = {0};
        ck_assert_msg(esp_json_parse(p, len, &json, &error) == ESP_OK, "%s line %zu: %s", where, n + 1, error.message);
        esp_reader value = esp_reader_root(json);
        ck_assert_msg(schema_check(&document, schema, &value, why, sizeof why), "%s line %zu: %s", where, n + 1, why);
        esp_json_free(json);
        p += len + (p[len] == '\n');
    }
    return n;
}

static size_t check_example(const esp_reader *schema, const esp_reader *example, const char *where) {
    esp_reader line = esp_read_member(schema, "x-line"), value = esp_reader_root(example->value);
    ck_assert_msg(schema_check(&document, schema, &value, why, sizeof why), "%s: %s", where, why);
    return line.value ? check_lines(&line, schema_text(example), where) : 1;
}

/* Every media type object (it has a schema and an example or examples) below `reader`. */
static size_t check_examples(const esp_reader *reader, const char *where) {
    size_t n = 0;
    const char *key, *name;
    esp_reader value, one;
    if (esp_reader_kind(reader) != ESP_JSON_OBJECT) return 0;
    esp_reader schema = esp_read_member(reader, "schema"), example = esp_read_member(reader, "example"),
               examples = esp_read_member(reader, "examples");
    if (schema.value && example.value) n += check_example(&schema, &example, where);
    for (size_t i = 0; schema.value && examples.value && esp_read_entry(&examples, i, &name, &value); i++) {
        one = esp_read_member(&value, "value");
        n += check_example(&schema, &one, where);
    }
    for (size_t i = 0; esp_read_entry(reader, i, &key, &value); i++)
        if (strncmp(key, "example", 7) != 0) n += check_examples(&value, key[0] == '/' ? key : where);
    return n;
}

START_TEST(examples__conform) {
    ck_assert_uint_gt(check_examples(&document, ""), 50);
}
END_TEST

typedef void example_fn(const char *name, const esp_reader *value);

static size_t for_examples(const char *pointer, example_fn *run) {
    esp_reader examples = at(pointer), one;
    const char *name;
    size_t n = 0;
    for (; esp_read_entry(&examples, n, &name, &one); n++) {
        esp_reader value = esp_reader_root(esp_read_member(&one, "value").value);
        run(name, &value);
    }
    return n;
}

static void check_task(const char *name, const esp_reader *value) {
    esp_arena *arena = esp_arena_create(0);
    esp_task *task = NULL;
    esp_error error = {0};
    ck_assert_msg(esp_task_parse(value, 2, 1, arena, &task, &error) == ESP_OK, "%s: %s %s", name, error.pointer, error.message);
    ck_assert_int_ge(task->horizon, 1);
    esp_arena_free(arena);
}

static void check_plan_task(const char *name, const esp_reader *value) {
    esp_reader task = esp_read_member(value, "task");
    if (esp_reader_kind(&task) == ESP_JSON_OBJECT) check_task(name, &task);
}

static void check_model(const char *name, const esp_reader *value) {
    esp_model *model = NULL;
    esp_error error = {0};
    ck_assert_msg(esp_model_parse_json(value, ESP_MODEL_DYNAMICS, &model, &error) == ESP_OK, "%s: %s %s", name, error.pointer, error.message);
    ck_assert_int_eq(model->ny, 2);
    ck_assert_int_eq(model->nu, 1);
    esp_model_free(model);
}

static void check_train(const char *name, const esp_reader *value) {
    esp_reader kind = esp_read_member(value, "kind"), spec = esp_read_member(value, "spec");
    if (strcmp(schema_text(&kind), "train") != 0) return;
    esp_arena *arena = esp_arena_create(0);
    esp_train_opts opts;
    esp_error error = {0};
    bool graph = strcmp(name, "train_graph") == 0; /* its data are others: two discs and a finger, instead of the rail */
    ck_assert_msg(esp_train_opts_parse(&spec, graph ? 6 : 2, graph ? 2 : 1, arena, &opts, &error) == ESP_OK, "%s: %s %s", name, error.pointer,
                  error.message);
    ck_assert_int_ge(opts.n_hidden, 1);
    esp_arena_free(arena);
}

static void check_prune(const char *name, const esp_reader *value) {
    esp_reader kind = esp_read_member(value, "kind"), spec = esp_read_member(value, "spec"), states = esp_read_member(&spec, "states");
    if (strcmp(schema_text(&kind), "prune") != 0) return;
    esp_arena *arena = esp_arena_create(0);
    esp_prune_spec parsed;
    esp_error error = {0};
    int n_x = states.value ? 2 : 3; /* the policy's, the carriage's */
    ck_assert_msg(esp_prune_spec_parse(&spec, n_x, arena, &parsed, &error) == ESP_OK, "%s: %s %s", name, error.pointer, error.message);
    esp_arena_free(arena);
}

static void check_distill(const char *name, const esp_reader *value) {
    esp_reader kind = esp_read_member(value, "kind"), spec = esp_read_member(value, "spec");
    if (strcmp(schema_text(&kind), "distill") != 0) return;
    esp_distill_opts opts;
    esp_error error = {0};
    ck_assert_msg(esp_distill_opts_parse(&spec, 3, 1, &opts, &error) == ESP_OK, "%s: %s %s", name, error.pointer, error.message);
    ck_assert_int_ge(opts.samples, 1);
}

START_TEST(examples__are_read_by_the_library) {
    ck_assert_uint_ge(for_examples("#/paths/~1v1~1tasks/post/requestBody/content/application~1json/examples", check_task), 3);
    ck_assert_uint_ge(for_examples("#/paths/~1v1~1plans/post/requestBody/content/application~1json/examples", check_plan_task), 3);
    ck_assert_uint_ge(for_examples("#/paths/~1v1~1models/post/requestBody/content/application~1json/examples", check_model), 2);
    ck_assert_uint_ge(for_examples("#/paths/~1v1~1jobs/post/requestBody/content/application~1json/examples", check_train), 3);
    ck_assert_uint_ge(for_examples("#/paths/~1v1~1jobs/post/requestBody/content/application~1json/examples", check_prune), 3);
    ck_assert_uint_ge(for_examples("#/paths/~1v1~1jobs/post/requestBody/content/application~1json/examples", check_distill), 1);
}
END_TEST

/* ---- what both refuse ---- */

typedef enum refused_by { BY_TASK, BY_TRAIN, BY_PRUNE, BY_DISTILL, BY_NETWORK } refused_by;

/* One fault in each. */
static const struct {
    refused_by what;
    const char *json;
} refused[] = {
#define TASK(horizon, term, input, rest)                                                                                                             \
    "{\"name\":\"t\",\"model\":\"m\",\"horizon\":" horizon ",\"cost\":{\"stage\":[" term "]},\"input\":{\"lower\":[-1],\"upper\":[1]" input "}" rest \
    "}"
#define TERM "{\"on\":\"y\",\"weight\":1,\"norm\":\"l1\"}"
    {BY_TASK, TASK("0", TERM, "", "")},
    {BY_TASK, TASK("65", TERM, "", "")},
    {BY_TASK, TASK("2.5", TERM, "", "")},
    {BY_TASK, TASK("5", "{\"on\":\"x\",\"weight\":1,\"norm\":\"l1\"}", "", "")},
    {BY_TASK, TASK("5", "{\"on\":\"y\",\"weight\":-1,\"norm\":\"l1\"}", "", "")},
    {BY_TASK, TASK("5", "{\"on\":\"y\",\"weight\":1,\"norm\":\"l3\"}", "", "")},
    {BY_TASK, TASK("5", "{\"on\":\"y\",\"weight\":1}", "", "")},
    {BY_TASK, TASK("5", "{\"on\":\"y\",\"weight\":1,\"norm\":\"l1\",\"target\":\"start\"}", "", "")},
    {BY_TASK, TASK("5", "{\"on\":\"y\",\"weight\":1,\"norm\":\"l1\",\"scale\":2}", "", "")},
    {BY_TASK, TASK("5", TERM, ",\"limit\":[1]", "")},
    {BY_TASK, TASK("5", TERM, "", ",\"speed\":1")},
    {BY_TASK, TASK("5", TERM, "", ",\"trust_region\":{\"margin\":1}")},
    {BY_TASK, TASK("5", TERM, "", ",\"trust_region\":{\"kind\":\"data\",\"margin\":-1}")},
    {BY_TASK, TASK("5", TERM, "", ",\"planner\":{\"method\":\"magic\"}")},
    {BY_TASK, TASK("5", TERM, "", ",\"planner\":{\"gap\":-0.1}")},
    {BY_TASK, TASK("5", TERM, "", ",\"state\":{\"penalty\":0}")},
    {BY_TASK, TASK("5", TERM, "", ",\"state\":{\"halfspaces\":[{\"a\":[1,1]}]}")},
    {BY_TASK, TASK("5", TERM, "", ",\"state\":{\"avoid\":[{\"index\":[],\"lower\":[],\"upper\":[]}]}")},
#undef TASK
#undef TERM
#define SPEC(model, rest) "{\"dataset\":\"d\",\"name\":\"n\",\"model\":" model rest "}"
#define MLP               "{\"type\":\"mlp\",\"hidden\":[8]}"
    {BY_TRAIN, SPEC("{\"type\":\"tree\",\"hidden\":[8]}", "")},
    {BY_TRAIN, SPEC("{\"type\":\"mlp\",\"hidden\":[0]}", "")},
    {BY_TRAIN, SPEC("{\"type\":\"mlp\"}", "")},
    {BY_TRAIN, SPEC(MLP, ",\"epoch\":3")},
    {BY_TRAIN, SPEC(MLP, ",\"epochs\":-1")},
    {BY_TRAIN, SPEC(MLP, ",\"learning_rate\":-1")},
    {BY_TRAIN, SPEC(MLP, ",\"history\":0")},
    {BY_TRAIN, SPEC(MLP, ",\"tau\":0")},
    {BY_TRAIN, SPEC(MLP, ",\"lambda\":-1")},
    {BY_TRAIN, SPEC(MLP, ",\"ladder\":[-1]")},
    {BY_TRAIN, SPEC(MLP, ",\"straight_through\":1")},
    {BY_TRAIN, SPEC(MLP, ",\"schedule\":\"linear\"")},
    {BY_TRAIN, SPEC(MLP, ",\"step_weights\":[-1]")},
    {BY_TRAIN, SPEC(MLP, ",\"plateau_factor\":0")},
    {BY_TRAIN, SPEC(MLP, ",\"frame\":\"linear\"")},
#undef SPEC
#undef MLP
    {BY_PRUNE, "{\"model\":\"m\",\"method\":\"lottery\",\"sparsity\":0.5}"},
    {BY_PRUNE, "{\"model\":\"m\",\"method\":\"magnitude\",\"sparsity\":1.5}"},
    {BY_PRUNE, "{\"model\":\"m\",\"method\":\"magnitude\",\"sparsity\":0.5,\"layers\":[0]}"},
    {BY_PRUNE, "{\"model\":\"m\",\"method\":\"magnitude\",\"sparsity\":0.5,\"damping\":-1}"},
    {BY_PRUNE, "{\"model\":\"m\",\"method\":\"magnitude\",\"sparsity\":0.5,\"block\":0}"},
    {BY_PRUNE, "{\"model\":\"m\",\"method\":\"magnitude\",\"sparsity\":0.5,\"finetune\":1}"},
    {BY_PRUNE, "{\"model\":\"m\",\"method\":\"magnitude\",\"pattern\":\"1:4\"}"},
    {BY_PRUNE, "{\"model\":\"m\",\"method\":\"obs\",\"sparsity\":0.5,\"states\":[]}"},
    {BY_PRUNE, "{\"model\":\"m\",\"error_budget\":0,\"domain\":{\"lower\":[0,0,0],\"upper\":[1,1,1]}}"},
#define DISTILL(rest) "{\"task\":\"t\",\"name\":\"n\",\"domain\":{\"lower\":[0,0,0],\"upper\":[1,1,1]}" rest "}"
    {BY_DISTILL, DISTILL(",\"samples\":0,\"hidden\":[4]")},
    {BY_DISTILL, DISTILL(",\"samples\":9")},
    {BY_DISTILL, DISTILL(",\"samples\":9,\"hidden\":[]")},
    {BY_DISTILL, DISTILL(",\"samples\":9,\"hidden\":[4],\"dagger_rounds\":51")},
    {BY_DISTILL, DISTILL(",\"samples\":9,\"hidden\":[4],\"plan_ms\":0")},
    {BY_DISTILL, DISTILL(",\"samples\":9,\"hidden\":[4],\"validation\":1")},
    {BY_DISTILL, DISTILL(",\"samples\":9,\"hidden\":[4],\"model\":\"m\"")},
    {BY_NETWORK, "{}"},
    {BY_NETWORK, "{\"layers\":[]}"},
    {BY_NETWORK, "{\"layers\":[{\"w\":[[1,1]],\"activation\":\"identity\"}],\"nu\":1}"},
    {BY_NETWORK, "{\"layers\":[{\"w\":[[1,1]],\"b\":[0],\"activation\":\"tanh\"}],\"nu\":1}"},
    {BY_NETWORK, "{\"layers\":[{\"w\":[[1,\"1\"]],\"b\":[0],\"activation\":\"identity\"}],\"nu\":1}"},
    {BY_NETWORK, "{\"layers\":[{\"w\":[[1,1]],\"b\":[0],\"activation\":\"identity\"}],\"nu\":-1}"},
    {BY_NETWORK, "{\"layers\":[{\"w\":[[1,1]],\"b\":[0],\"activation\":\"identity\"}],\"nu\":1,\"frame\":{\"a\":[[1]]}}"},
};

static esp_code parse_as(refused_by what, const esp_reader *value, esp_arena *arena, esp_error *reterr) {
    esp_task *task = NULL;
    esp_train_opts opts;
    esp_prune_spec prune;
    esp_distill_opts distill;
    esp_model *model = NULL;
    esp_code code = ESP_OK;
    switch (what) {
    case BY_TASK: code = esp_task_parse(value, 2, 1, arena, &task, reterr); break;
    case BY_TRAIN: code = esp_train_opts_parse(value, 2, 1, arena, &opts, reterr); break;
    case BY_PRUNE: code = esp_prune_spec_parse(value, 3, arena, &prune, reterr); break;
    case BY_DISTILL: code = esp_distill_opts_parse(value, 3, 1, &distill, reterr); break;
    case BY_NETWORK: code = esp_model_parse_json(value, ESP_MODEL_DYNAMICS, &model, reterr); break;
    }
    esp_model_free(model);
    return code;
}

START_TEST(examples__schema_and_library_refuse_the_same) {
    static const char *const schemas[] = {"#/components/schemas/TaskRequest", "#/components/schemas/TrainSpec", "#/components/schemas/PruneSpec",
                                          "#/components/schemas/DistillSpec", "#/components/schemas/Network"};
    esp_json *json = NULL;
    esp_error error = {0};
    esp_arena *arena = esp_arena_create(0);
    esp_reader schema = at(schemas[refused[_i].what]);
    ck_assert_msg(esp_json_parse(refused[_i].json, strlen(refused[_i].json), &json, &error) == ESP_OK, "%s: %s", refused[_i].json, error.message);
    esp_reader value = esp_reader_root(json);
    ck_assert_msg(!schema_check(&document, &schema, &value, why, sizeof why), "the schema takes %s", refused[_i].json);
    esp_code code = parse_as(refused[_i].what, &value, arena, &error);
    ck_assert_msg(code != ESP_OK, "the library takes %s", refused[_i].json);
    ck_assert_msg(code == ESP_INVALID || code == ESP_UNPROCESSABLE, "%s: %s", refused[_i].json, esp_code_name(code));
    esp_json_free(json);
    esp_arena_free(arena);
}
END_TEST

/* ---- the carriage of the examples, by hand: position and velocity after a step of u ---- */

static void carriage(const double y[2], double u, double ret[2]) {
    double v = y[1], drag = v > 0 ? 0.05 * v : 0.02 * v;
    ret[0] = y[0] + 0.1 * v;
    ret[1] = v + 0.1 * u - drag;
}

static void read_rows(const esp_reader *matrix, size_t rows, size_t cols, double *ret) {
    esp_error error = {0};
    ck_assert_msg(esp_read_matrix(matrix, rows, cols, ret, &error) == ESP_OK, "%s", error.message);
}

START_TEST(examples__prediction_is_the_networks) {
    double x[6], y[4], expected[2];
    esp_reader in = at("#/paths/~1v1~1models~1{ref}~1predict/post/requestBody/content/application~1json/example/x");
    esp_reader out = at("#/paths/~1v1~1models~1{ref}~1predict/post/responses/200/content/application~1json/example/y");
    esp_reader network = at("#/paths/~1v1~1models/post/requestBody/content/application~1json/examples/rail/value");
    read_rows(&in, 2, 3, x);
    read_rows(&out, 2, 2, y);
    esp_model *model = NULL;
    ck_assert_int_eq(esp_model_parse_json(&network, ESP_MODEL_DYNAMICS, &model, NULL), ESP_OK);
    for (int i = 0; i < 2; i++) {
        double f[2], work[64];
        carriage(x + 3 * i, x[3 * i + 2], expected);
        esp_net_forward(model->net, x + 3 * i, f, work);
        for (int k = 0; k < 2; k++) {
            ck_assert_double_eq_tol(y[2 * i + k], expected[k], 1e-12);
            ck_assert_double_eq_tol(y[2 * i + k], x[3 * i + k] + f[k], 1e-12);
        }
    }
    esp_model_free(model);
}
END_TEST

START_TEST(examples__plan_is_what_it_says) {
    esp_reader plan = at("#/paths/~1v1~1plans/post/responses/200/content/application~1json/examples/reached/value");
    esp_reader inputs = esp_read_member(&plan, "inputs"), predicted = esp_read_member(&plan, "predicted");
    esp_reader objective = esp_read_member(&plan, "objective");
    double u[5], y[10], now[2] = {0, 0}, next[2], sum = 0, said = 0;
    read_rows(&inputs, 5, 1, u);
    read_rows(&predicted, 5, 2, y);
    ck_assert_int_eq(esp_read_number(&objective, -1e9, 1e9, &said, NULL), ESP_OK);
    for (int t = 0; t < 5; t++) {
        carriage(now, u[t], next);
        ck_assert_double_eq_tol(next[0], y[2 * t], 1e-8);
        ck_assert_double_eq_tol(next[1], y[2 * t + 1], 1e-8);
        sum += fabs(next[0] - 0.05) + 0.01 * fabs(u[t]);
        memcpy(now, next, sizeof now);
    }
    sum += 10 * fabs(now[0] - 0.05) + fabs(now[1]);
    ck_assert_double_eq_tol(sum, said, 1e-7);
}
END_TEST

/* Request and reply `outside`: above a speed of 0.25, |y0 - 0.2| as the cost, 20 for a unit of slack. */
START_TEST(examples__plan_from_outside_is_what_it_says) {
    esp_reader plan = at("#/paths/~1v1~1plans/post/responses/200/content/application~1json/examples/outside/value");
    esp_reader inputs = esp_read_member(&plan, "inputs"), predicted = esp_read_member(&plan, "predicted"), slack = esp_read_member(&plan, "slack");
    esp_reader steps = esp_read_member(&slack, "steps");
    static const char *const names[] = {"total", "max", "cost"};
    double u[3], y[6], s[3], now[2] = {0, 0.5}, next[2], own[3] = {0, 0, 0}, said = 0;
    read_rows(&inputs, 3, 1, u);
    read_rows(&predicted, 3, 2, y);
    ck_assert_int_eq(esp_read_vector(&steps, 3, s, NULL), ESP_OK);
    for (int t = 0; t < 3; t++) {
        carriage(now, u[t], next);
        ck_assert_double_eq_tol(next[0], y[2 * t], 1e-12);
        ck_assert_double_eq_tol(next[1], y[2 * t + 1], 1e-12);
        ck_assert_double_eq_tol(s[t], fmax(0, next[1] - 0.25), 1e-12);
        own[0] += s[t];
        own[1] = fmax(own[1], s[t]);
        own[2] += fabs(next[0] - 0.2);
        memcpy(now, next, sizeof now);
    }
    for (int k = 0; k < 3; k++) {
        esp_reader member = esp_read_member(&slack, names[k]);
        ck_assert_int_eq(esp_read_number(&member, 0, 1e9, &said, NULL), ESP_OK);
        ck_assert_double_eq_tol(said, own[k], 1e-12);
    }
    esp_reader objective = esp_read_member(&plan, "objective");
    ck_assert_int_eq(esp_read_number(&objective, 0, 1e9, &said, NULL), ESP_OK);
    ck_assert_double_eq_tol(said, own[2] + 20 * own[0], 1e-12);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("examples");
    TCase *tcase = tcase_create("document");
    tcase_add_checked_fixture(tcase, open_document, NULL);
    tcase_add_test(tcase, examples__conform);
    tcase_add_test(tcase, examples__are_read_by_the_library);
    tcase_add_loop_test(tcase, examples__schema_and_library_refuse_the_same, 0, (int)(sizeof refused / sizeof refused[0]));
    tcase_add_test(tcase, examples__prediction_is_the_networks);
    tcase_add_test(tcase, examples__plan_is_what_it_says);
    tcase_add_test(tcase, examples__plan_from_outside_is_what_it_says);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
