/* SPDX-License-Identifier: Apache-2.0
 * Parsing of tasks: what a good one becomes, and every refusal with the field it names. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "plan/task.h"
#include "support/planning.h"

#define COST  "'cost':{'stage':[{'on':'y','weight':1,'norm':'l1'}]}"
#define INPUT "'input':{'lower':[-1,-2],'upper':[1,2]}"

static esp_code parse(const char *text, esp_task **ret_task, esp_json **ret_json, esp_arena **ret_arena, esp_error *error) {
    *error = (esp_error){0};
    return task_of(text, 3, 2, ret_json, ret_arena, ret_task, error);
}

START_TEST(task__everything_arrives) {
    esp_json *json;
    esp_arena *arena;
    esp_task *t = NULL;
    esp_error error;
    esp_code code = parse(
        "{'name':'n','model':'m','horizon':7,"
        "'cost':{'stage':[{'on':'y','index':[2,0],'weight':[1,2.5],'norm':'l2sq','target':'goal'},{'on':'u','weight':0.1,'norm':'linf'}],"
        "'terminal':[{'on':'du','index':[1],'weight':3,'norm':'l1','target':[0.5]},{'on':'y','index':[0,1],'weight':1,'norm':'l1','target':'goal'}]},"
        "'input':{'lower':[-1,-2],'upper':[1,2],'values':[[0,0],[1,-2]],'rate':[0.5,9],'safe':[1,-2]},"
        "'state':{'lower':[null,-4,-5],'upper':[3,4,null],'penalty':12,'halfspaces':[{'a':[1,0,-1],'b':2}],'avoid':[{'index':[1],'lower':[0],'upper':"
        "[1]}]},"
        "'trust_region':{'kind':'box','margin':0.1,'lower':[-9,-3,-9],'upper':[9,9,9]},"
        "'planner':{'method':'mppi','engine':'cbc','gap':0.05,'absolute_gap':0.25,'seed':77}}",
        &t, &json, &arena, &error);
    ck_assert_msg(code == ESP_OK, "%s: %s", error.pointer, error.message);
    ck_assert_int_eq(t->horizon, 7);
    ck_assert_int_eq(t->n_stage, 2);
    ck_assert_int_eq(t->n_terminal, 2);
    ck_assert_int_eq(t->n_goal, 2);
    ck_assert(t->stage[0].target_is_goal && t->stage[0].target == NULL && t->stage[0].norm == ESP_COST_L2SQ && t->stage[0].index[0] == 2);
    ck_assert_double_eq(t->stage[0].weight[1], 2.5);
    ck_assert(t->stage[1].n == 2 && t->stage[1].weight[1] == 0.1 && t->stage[1].target[1] == 0 && t->stage[1].norm == ESP_COST_LINF);
    ck_assert(t->terminal[0].on == ESP_ON_DU && t->terminal[0].target[0] == 0.5);
    ck_assert(t->n_values == 2 && t->values[3] == -2 && t->rate[0] == 0.5 && t->safe[1] == -2);
    ck_assert(isinf(t->y_lower[0]) && t->y_lower[1] == -4 && t->y_lower[2] == -5);
    ck_assert(t->trust_lower[1] == -3 && t->trust_upper[0] == 9);
    ck_assert(t->y_upper[0] == 3 && t->y_upper[1] == 4 && isinf(t->y_upper[2]));
    ck_assert(t->n_halfspaces == 1 && t->halfspaces[0].a[2] == -1 && t->halfspaces[0].b == 2);
    ck_assert_double_eq(t->penalty, 12);
    ck_assert(t->n_avoid == 1 && t->avoid[0].n == 1 && t->avoid[0].index[0] == 1 && t->avoid[0].upper[0] == 1);
    ck_assert(t->trust == ESP_TRUST_BOX && t->trust_margin == 0.1);
    ck_assert(t->method == ESP_METHOD_MPPI && t->engine == ESP_ENGINE_CBC && t->gap == 0.05 && t->absolute_gap == 0.25 && t->seed == 77);
    esp_json_free(json);
    esp_arena_free(arena);
}
END_TEST

START_TEST(task__defaults_are_the_documented_ones) {
    esp_json *json;
    esp_arena *arena;
    esp_task *t = NULL;
    esp_error error;
    ck_assert_int_eq(parse("{'horizon':1," COST "," INPUT "}", &t, &json, &arena, &error), ESP_OK);
    ck_assert(t->method == ESP_METHOD_MIP && t->engine == ESP_ENGINE_AUTO && t->gap == 0.01 && t->absolute_gap == 0 && t->seed == 0);
    ck_assert(t->trust == ESP_TRUST_NONE && !t->values && !t->rate && !t->safe && !t->y_lower && !t->y_upper && t->penalty == 0 && t->n_goal == 0);
    ck_assert(t->stage[0].n == 3 && t->stage[0].index[2] == 2 && t->stage[0].target[2] == 0);
    esp_json_free(json);
    esp_arena_free(arena);
}
END_TEST

typedef struct refusal {
    const char *pointer, *text;
} refusal;

#define WITH(member)      "{'horizon':2," COST "," INPUT "," member "}"
#define WITH_COST(cost)   "{'horizon':2,'cost':" cost "," INPUT "}"
#define WITH_TERM(term)   WITH_COST("{'stage':[" term "]}")
#define WITH_INPUT(input) "{'horizon':2," COST ",'input':" input "}"

static const refusal refusals[] = {
    {"/colour", WITH("'colour':1")},
    {"/horizon", "{" COST "," INPUT "}"},
    {"/horizon", "{'horizon':0," COST "," INPUT "}"},
    {"/horizon", "{'horizon':65," COST "," INPUT "}"},
    {"/horizon", "{'horizon':2.5," COST "," INPUT "}"},
    {"/horizon", "{'horizon':'2'," COST "," INPUT "}"},
    {"/cost", "{'horizon':2," INPUT "}"},
    {"/cost", WITH_COST("[]")},
    {"/cost", WITH_COST("{}")},
    {"/cost", WITH_COST("{'stage':[]}")},
    {"/cost/middle", WITH_COST("{'middle':[]}")},
    {"/cost/stage", WITH_COST("{'stage':{}}")},
    {"/cost/terminal/0", WITH_COST("{'terminal':[7]}")},
    {"/cost/stage/0/on", WITH_TERM("{'weight':1,'norm':'l1'}")},
    {"/cost/stage/0/on", WITH_TERM("{'on':'x','weight':1,'norm':'l1'}")},
    {"/cost/stage/0/norm", WITH_TERM("{'on':'y','weight':1}")},
    {"/cost/stage/0/norm", WITH_TERM("{'on':'y','weight':1,'norm':'l2'}")},
    {"/cost/stage/0/weight", WITH_TERM("{'on':'y','norm':'l1'}")},
    {"/cost/stage/0/weight", WITH_TERM("{'on':'y','norm':'l1','weight':-1}")},
    {"/cost/stage/0/weight", WITH_TERM("{'on':'y','norm':'l1','weight':'1'}")},
    {"/cost/stage/0/weight", WITH_TERM("{'on':'y','norm':'l1','weight':1e300}")},
    {"/cost/stage/0/weight", WITH_TERM("{'on':'y','norm':'l1','weight':[1,1]}")},
    {"/cost/stage/0/weight/2", WITH_TERM("{'on':'y','norm':'l1','weight':[1,1,-0.5]}")},
    {"/cost/stage/0/size", WITH_TERM("{'on':'y','norm':'l1','weight':1,'size':1}")},
    {"/cost/stage/0/index", WITH_TERM("{'on':'y','norm':'l1','weight':1,'index':[]}")},
    {"/cost/stage/0/index", WITH_TERM("{'on':'y','norm':'l1','weight':1,'index':[0,1,2,0]}")},
    {"/cost/stage/0/index/0", WITH_TERM("{'on':'y','norm':'l1','weight':1,'index':[3]}")},
    {"/cost/stage/0/index/0", WITH_TERM("{'on':'u','norm':'l1','weight':1,'index':[2]}")},
    {"/cost/stage/0/index/0", WITH_TERM("{'on':'u','norm':'l1','weight':1,'index':[-1]}")},
    {"/cost/stage/0/index/0", WITH_TERM("{'on':'u','norm':'l1','weight':1,'index':[null]}")},
    {"/cost/stage/0/index/1", WITH_TERM("{'on':'y','norm':'l1','weight':1,'index':[1,1]}")},
    {"/cost/stage/0/target", WITH_TERM("{'on':'y','norm':'l1','weight':1,'target':'gaol'}")},
    {"/cost/stage/0/target", WITH_TERM("{'on':'y','norm':'l1','weight':1,'target':[1,2]}")},
    {"/cost/stage/0/target/1", WITH_TERM("{'on':'y','norm':'l1','weight':1,'target':[1,'2',3]}")},
    {"/cost/stage/0/target/1", WITH_TERM("{'on':'y','norm':'l1','weight':1,'target':[1,2e10,3]}")},
    {"/cost/stage/1/target", WITH_TERM("{'on':'y','norm':'l1','weight':1,'target':'goal'},{'on':'u','norm':'l1','weight':1,'target':'goal'}")},
    {"/input", "{'horizon':2," COST "}"},
    {"/input", WITH_INPUT("3")},
    {"/input/min", WITH_INPUT("{'lower':[-1,-1],'upper':[1,1],'min':1}")},
    {"/input/lower", WITH_INPUT("{'upper':[1,1]}")},
    {"/input/upper", WITH_INPUT("{'lower':[1,1]}")},
    {"/input/lower", WITH_INPUT("{'lower':[-1],'upper':[1,1]}")},
    {"/input/upper", WITH_INPUT("{'lower':[-1,-1],'upper':[1,1,1]}")},
    {"/input/lower/1", WITH_INPUT("{'lower':[-1,null],'upper':[1,1]}")},
    {"/input/upper/0", WITH_INPUT("{'lower':[2,-1],'upper':[1,1]}")},
    {"/input/values", WITH_INPUT("{'lower':[-1,-1],'upper':[1,1],'values':[]}")},
    {"/input/values/1", WITH_INPUT("{'lower':[-1,-1],'upper':[1,1],'values':[[0,0],[1]]}")},
    {"/input/values/1/0", WITH_INPUT("{'lower':[-1,-1],'upper':[1,1],'values':[[0,0],[1.5,0]]}")},
    {"/input/rate", WITH_INPUT("{'lower':[-1,-1],'upper':[1,1],'rate':1}")},
    {"/input/rate/1", WITH_INPUT("{'lower':[-1,-1],'upper':[1,1],'rate':[1,-1]}")},
    {"/input/safe", WITH_INPUT("{'lower':[-1,-1],'upper':[1,1],'safe':[0]}")},
    {"/input/safe/1", WITH_INPUT("{'lower':[-1,-1],'upper':[1,1],'safe':[0,2]}")},
    {"/input/safe", WITH_INPUT("{'lower':[-1,-1],'upper':[1,1],'safe':[0,0.5],'values':[[0,0]]}")},
    {"/state/box", WITH("'state':{'box':1}")},
    {"/state/lower", WITH("'state':{'lower':[0,0]}")},
    {"/state/upper/2", WITH("'state':{'upper':[0,0,'a']}")},
    {"/state/upper/1", WITH("'state':{'lower':[0,1,0],'upper':[1,0,1]}")},
    {"/state/penalty", WITH("'state':{'penalty':0}")},
    {"/state/penalty", WITH("'state':{'penalty':-1}")},
    {"/state/penalty", WITH("'state':{'penalty':1e12}")},
    {"/state/penalty", WITH("'state':{'penalty':'high'}")},
    {"/state/halfspaces", WITH("'state':{'halfspaces':1}")},
    {"/state/halfspaces/0/a", WITH("'state':{'halfspaces':[{'b':1}]}")},
    {"/state/halfspaces/0/a", WITH("'state':{'halfspaces':[{'a':[1],'b':1}]}")},
    {"/state/halfspaces/0/b", WITH("'state':{'halfspaces':[{'a':[1,1,1]}]}")},
    {"/state/halfspaces/0/c", WITH("'state':{'halfspaces':[{'a':[1,1,1],'b':1,'c':1}]}")},
    {"/state/avoid/0/index", WITH("'state':{'avoid':[{'lower':[0],'upper':[1]}]}")},
    {"/state/avoid/0/lower", WITH("'state':{'avoid':[{'index':[0],'lower':[0,1],'upper':[1]}]}")},
    {"/state/avoid/0/upper", WITH("'state':{'avoid':[{'index':[0],'lower':[0]}]}")},
    {"/state/avoid/0/upper/0", WITH("'state':{'avoid':[{'index':[0],'lower':[2],'upper':[1]}]}")},
    {"/state/avoid/0/index/0", WITH("'state':{'avoid':[{'index':[5],'lower':[0],'upper':[1]}]}")},
    {"/state/avoid/0/shape", WITH("'state':{'avoid':[{'index':[0],'lower':[0],'upper':[1],'shape':'disc'}]}")},
    {"/trust_region", WITH("'trust_region':'box'")},
    {"/trust_region/kind", WITH("'trust_region':{}")},
    {"/trust_region/kind", WITH("'trust_region':{'kind':'ball'}")},
    {"/trust_region/margin", WITH("'trust_region':{'kind':'data','margin':-1}")},
    {"/trust_region/lower", WITH("'trust_region':{'kind':'data','lower':[0,0,0]}")},
    {"/trust_region/upper", WITH("'trust_region':{'kind':'none','upper':[0,0,0]}")},
    {"/trust_region/upper", WITH("'trust_region':{'kind':'box','upper':[0,0]}")},
    {"/trust_region/lower/2", WITH("'state':{'upper':[1,1,1]},'trust_region':{'kind':'box','lower':[0,1,2]}")},
    {"/trust_region/upper/0", WITH("'state':{'lower':[1,1,1]},'trust_region':{'kind':'box','upper':[0,2,2]}")},
    {"/trust_region/radius", WITH("'trust_region':{'kind':'box','radius':1}")},
    {"/planner", WITH("'planner':[]")},
    {"/planner/method", WITH("'planner':{'method':'magic'}")},
    {"/planner/engine", WITH("'planner':{'engine':'gurobi'}")},
    {"/planner/gap", WITH("'planner':{'gap':-0.01}")},
    {"/planner/absolute_gap", WITH("'planner':{'absolute_gap':'small'}")},
    {"/planner/seed", WITH("'planner':{'seed':-1}")},
    {"/planner/seed", WITH("'planner':{'seed':1.5}")},
    {"/planner/threads", WITH("'planner':{'threads':4}")},
};

START_TEST(task__refusals_name_the_field) {
    const refusal *r = &refusals[_i];
    esp_json *json;
    esp_arena *arena;
    esp_task *task = NULL;
    esp_error error;
    esp_code code = parse(r->text, &task, &json, &arena, &error);
    ck_assert_msg(code == ESP_INVALID, "accepted: %s", r->text);
    ck_assert_msg(strcmp(error.pointer, r->pointer) == 0, "%s: named %s (%s)", r->text, error.pointer, error.message);
    ck_assert_ptr_null(task);
    esp_json_free(json);
    esp_arena_free(arena);
}
END_TEST

START_TEST(task__needs_inputs_and_outputs) {
    esp_json *json;
    esp_arena *arena;
    esp_task *task = NULL;
    esp_error error = {0};
    ck_assert_int_eq(task_of("{'horizon':1,'cost':{'stage':[{'on':'y','weight':1,'norm':'l1'}]},'input':{'lower':[],'upper':[]}}", 1, 0, &json,
                             &arena, &task, &error),
                     ESP_UNPROCESSABLE);
    esp_json_free(json);
    esp_arena_free(arena);
}
END_TEST

static esp_json *json_of(const char *text) {
    char proper[1024];
    esp_json *json = NULL;
    size_t n = 0;
    for (; text[n]; n++) proper[n] = text[n] == '\'' ? '"' : text[n];
    ck_assert_int_eq(esp_json_parse(proper, n, &json, NULL), ESP_OK);
    return json;
}

static esp_code override(const char *task, const char *overrides, esp_buf *out, esp_error *error) {
    esp_json *a = json_of(task), *b = json_of(overrides);
    esp_reader ra = esp_reader_root(a), rb = esp_reader_root(b);
    esp_code code = esp_task_override(&ra, &rb, out, error);
    esp_json_free(a);
    esp_json_free(b);
    return code;
}

START_TEST(task__overrides_replace_members_and_merge_the_planner) {
    esp_buf out = {0};
    esp_error error = {0};
    ck_assert_int_eq(override("{'name':'n','horizon':3,'state':{'lower':[0],'upper':[1]},'planner':{'seed':4,'gap':0.1}}",
                              "{'horizon':5,'state':{'upper':[2]},'planner':{'gap':0.5,'method':'cem'}}", &out, &error),
                     ESP_OK);
    ck_assert_str_eq(esp_buf_text(&out),
                     "{\"horizon\":5,\"name\":\"n\",\"planner\":{\"gap\":0.5,\"method\":\"cem\",\"seed\":4},\"state\":{\"upper\":[2]}}");
    esp_buf_clear(&out);
    ck_assert_int_eq(override("{'horizon':3}", "{'planner':{'seed':1}}", &out, &error), ESP_OK);
    ck_assert_str_eq(esp_buf_text(&out), "{\"horizon\":3,\"planner\":{\"seed\":1}}");
    esp_buf_clear(&out);
    ck_assert_int_eq(override("{'horizon':3,'planner':{'seed':1}}", "{}", &out, &error), ESP_OK);
    ck_assert_str_eq(esp_buf_text(&out), "{\"horizon\":3,\"planner\":{\"seed\":1}}");
    esp_buf_done(&out);
}
END_TEST

START_TEST(task__overrides_of_other_fields_are_refused) {
    esp_buf out = {0};
    esp_error error = {0};
    ck_assert_int_eq(override("{'horizon':3}", "{'model':'other'}", &out, &error), ESP_INVALID);
    ck_assert_str_eq(error.pointer, "/model");
    ck_assert_int_eq(override("{'horizon':3}", "{'planner':{'speed':1}}", &out, &error), ESP_INVALID);
    ck_assert_str_eq(error.pointer, "/planner/speed");
    ck_assert_int_eq(override("{'horizon':3}", "{'planner':3}", &out, &error), ESP_INVALID);
    ck_assert_str_eq(error.pointer, "/planner");
    ck_assert_int_eq(override("{'horizon':3}", "[]", &out, &error), ESP_INVALID);
    ck_assert_uint_eq(out.len, 0);
    esp_buf_done(&out);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("task");
    TCase *tc = tcase_create("task");
    tcase_add_test(tc, task__everything_arrives);
    tcase_add_test(tc, task__defaults_are_the_documented_ones);
    tcase_add_loop_test(tc, task__refusals_name_the_field, 0, (int)(sizeof refusals / sizeof *refusals));
    tcase_add_test(tc, task__needs_inputs_and_outputs);
    tcase_add_test(tc, task__overrides_replace_members_and_merge_the_planner);
    tcase_add_test(tc, task__overrides_of_other_fields_are_refused);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
