/* SPDX-License-Identifier: Apache-2.0
 * The JSON Schema checker of the tests: every keyword with a value that conforms and one that does not. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/schema.h"

typedef struct schema_case {
    const char *schema, *value;
    const char *why; /* NULL: conforms; else a part of the reason */
} schema_case;

#define DEFINITIONS "\"defs\":{\"pair\":{\"type\":\"array\",\"minItems\":2,\"maxItems\":2,\"items\":{\"type\":\"number\"}},\"a/b~c\":{\"const\":1}}"

static const schema_case cases[] = {
    {"{\"type\":\"string\"}", "\"a\"", NULL},
    {"{\"type\":\"string\"}", "1", "not of type string"},
    {"{\"type\":\"number\"}", "1.5", NULL},
    {"{\"type\":\"number\"}", "\"1.5\"", "not of type number"},
    {"{\"type\":\"integer\"}", "3", NULL},
    {"{\"type\":\"integer\"}", "3.0", NULL},
    {"{\"type\":\"integer\"}", "3.5", "not of type integer"},
    {"{\"type\":\"boolean\"}", "false", NULL},
    {"{\"type\":\"boolean\"}", "0", "not of type boolean"},
    {"{\"type\":\"null\"}", "null", NULL},
    {"{\"type\":\"null\"}", "0", "not of type null"},
    {"{\"type\":[\"number\",\"null\"]}", "null", NULL},
    {"{\"type\":[\"number\",\"null\"]}", "2", NULL},
    {"{\"type\":[\"number\",\"null\"]}", "\"2\"", "none of the types"},
    {"{\"properties\":{\"a\":{\"type\":\"number\"}}}", "{\"a\":1,\"b\":\"x\"}", NULL},
    {"{\"properties\":{\"a\":{\"type\":\"number\"}}}", "{\"a\":\"x\"}", "/a: is not of type number"},
    {"{\"properties\":{\"a\":{\"type\":\"number\"}}}", "{\"a\":null}", "/a: is not of type number"},
    {"{\"required\":[\"a\"]}", "{\"a\":null}", NULL},
    {"{\"required\":[\"a\"]}", "{\"b\":1}", "lacks \"a\""},
    {"{\"properties\":{\"a\":{}},\"additionalProperties\":false}", "{\"a\":1}", NULL},
    {"{\"properties\":{\"a\":{}},\"additionalProperties\":false}", "{\"a\":1,\"b\":2}", "/b: is a field the schema does not know"},
    {"{\"additionalProperties\":{\"type\":\"number\"}}", "{\"b\":2}", NULL},
    {"{\"additionalProperties\":{\"type\":\"number\"}}", "{\"b\":\"2\"}", "/b: is not of type number"},
    {"{\"items\":{\"type\":\"number\"}}", "[1,2]", NULL},
    {"{\"items\":{\"items\":{\"type\":\"number\"}}}", "[[1],[2,\"x\"]]", "/1/1: is not of type number"},
    {"{\"enum\":[\"a\",2,null]}", "2.0", NULL},
    {"{\"enum\":[\"a\",2,null]}", "null", NULL},
    {"{\"enum\":[\"a\",2,null]}", "\"b\"", "not in the enum"},
    {"{\"const\":{\"x\":1,\"y\":[2]}}", "{\"y\":[2],\"x\":1}", NULL},
    {"{\"const\":\"train\"}", "\"certify\"", "not the constant"},
    {"{\"minimum\":1}", "1", NULL},
    {"{\"minimum\":1}", "0.999", "outside minimum"},
    {"{\"maximum\":1}", "1", NULL},
    {"{\"maximum\":1}", "1.001", "outside maximum"},
    {"{\"exclusiveMinimum\":0}", "1e-300", NULL},
    {"{\"exclusiveMinimum\":0}", "0", "outside exclusiveMinimum"},
    {"{\"exclusiveMaximum\":1}", "0.5", NULL},
    {"{\"exclusiveMaximum\":1}", "1", "outside exclusiveMaximum"},
    {"{\"minItems\":1}", "[0]", NULL},
    {"{\"minItems\":1}", "[]", "outside minItems"},
    {"{\"maxItems\":1}", "[0]", NULL},
    {"{\"maxItems\":1}", "[0,0]", "outside maxItems"},
    {"{\"minLength\":2}", "\"ab\"", NULL},
    {"{\"minLength\":2}", "\"\\u00e9\"", "outside minLength"},
    {"{\"maxLength\":1}", "\"\\u00e9\"", NULL},
    {"{\"maxLength\":1}", "\"ab\"", "outside maxLength"},
    {"{\"allOf\":[{\"required\":[\"a\"]},{\"required\":[\"b\"]}]}", "{\"a\":1,\"b\":1}", NULL},
    {"{\"allOf\":[{\"required\":[\"a\"]},{\"required\":[\"b\"]}]}", "{\"a\":1}", "lacks \"b\""},
    {"{\"anyOf\":[{\"type\":\"number\"},{\"minimum\":0}]}", "1", NULL},
    {"{\"anyOf\":[{\"type\":\"number\"},{\"type\":\"string\"}]}", "[]", "no branch of anyOf"},
    {"{\"oneOf\":[{\"const\":1},{\"const\":2}]}", "2", NULL},
    {"{\"oneOf\":[{\"const\":1},{\"const\":2}]}", "3", "no branch of oneOf"},
    {"{\"oneOf\":[{\"type\":\"number\"},{\"minimum\":0}]}", "1", "2 branches of oneOf"},
    {"{\"oneOf\":[{\"type\":\"string\"},{\"properties\":{\"a\":{\"const\":1}}}]}", "{\"a\":2}",
     "/a: no branch of oneOf; nearest: is not the constant"},
    {"{\"$ref\":\"#/defs/pair\"}", "[1,2]", NULL},
    {"{\"$ref\":\"#/defs/pair\"}", "[1]", "outside minItems"},
    {"{\"$ref\":\"#/defs/pair\",\"maxItems\":1}", "[1,2]", "outside maxItems"},
    {"{\"$ref\":\"#/defs/a~1b~0c\"}", "1", NULL},
    {"{\"$ref\":\"#/defs/absent\"}", "1", "nothing at #/defs/absent"},
    {"{\"$ref\":\"elsewhere.json\"}", "1", "nothing at elsewhere.json"},
    {"{\"description\":\"d\",\"format\":\"date-time\",\"x-line\":{}}", "1", NULL},
    {"{\"prefixItems\":[{}]}", "[1]", "does not know \"prefixItems\""},
};

START_TEST(schema__each_keyword) {
    const schema_case *one = &cases[_i];
    esp_error error = {0};
    char why[512] = "";
    esp_buf text = {0};
    esp_json *document = NULL, *value = NULL;
    esp_buf_printf(&text, "{\"schema\":%s," DEFINITIONS "}", one->schema);
    ck_assert_int_eq(esp_json_parse(text.data, text.len, &document, &error), ESP_OK);
    ck_assert_int_eq(esp_json_parse(one->value, strlen(one->value), &value, &error), ESP_OK);
    esp_reader root = esp_reader_root(document), schema = esp_read_member(&root, "schema"), at = esp_reader_root(value);
    bool ok = schema_check(&root, &schema, &at, why, sizeof why);
    ck_assert_msg(ok == !one->why, "%s against %s: %s", one->value, one->schema, ok ? "conforms" : why);
    if (one->why) ck_assert_msg(strstr(why, one->why) != NULL, "reason \"%s\" lacks \"%s\"", why, one->why);
    esp_json_free(document);
    esp_json_free(value);
    esp_buf_done(&text);
}
END_TEST

static const char alias[] = "{\"name\":\"rail\",\"alias\":\"best\",\"version\":2}";
static const char problem[] = "{\"type\":\"urn:x\",\"title\":\"t\",\"status\":404,\"detail\":\"d\",\"code\":\"NOT_FOUND\",\"request_id\":\"r\"}";

START_TEST(schema__finds_the_operation_of_a_path) {
    char why[512] = "";
    ck_assert_msg(schema_check_reply("GET", "/v1/models/rail/aliases/best?at=2026-03-01T00:00:00Z", 200, alias, why, sizeof why), "%s", why);
    ck_assert_msg(schema_check_reply("POST", "/v1/models/rail/1/predict", 200, "{\"y\":[[1]]}", why, sizeof why), "%s", why);
    ck_assert_msg(schema_check_reply("GET", "/healthz", 200, "{\"status\":\"ok\"}", why, sizeof why), "%s", why);
    ck_assert(!schema_check_reply("POST", "/v1/models/rail/1/predict", 200, alias, why, sizeof why));
    ck_assert_msg(strstr(why, "lacks \"y\"") != NULL, "%s", why);
    ck_assert(!schema_check_reply("GET", "/v1/nowhere", 200, "{}", why, sizeof why));
    ck_assert_msg(strstr(why, "not documented") != NULL, "%s", why);
    ck_assert(!schema_check_reply("DELETE", "/healthz", 200, "{}", why, sizeof why));
}
END_TEST

START_TEST(schema__takes_default_for_problems_only) {
    char why[512] = "";
    ck_assert_msg(schema_check_reply("GET", "/v1/models/x", 404, problem, why, sizeof why), "%s", why);
    ck_assert_msg(schema_check_reply("GET", "/v1/models/x", 500, problem, why, sizeof why), "%s", why);
    ck_assert(!schema_check_reply("GET", "/v1/models/x", 201, problem, why, sizeof why));
    ck_assert_msg(strstr(why, "status 201 is not documented") != NULL, "%s", why);
    ck_assert(!schema_check_reply("GET", "/v1/models/x", 404, "{\"status\":404}", why, sizeof why));
    ck_assert(!schema_check_reply("GET", "/v1/models/x", 404, "<html>", why, sizeof why));
}
END_TEST

START_TEST(schema__checks_requests_and_lines) {
    char why[512] = "";
    ck_assert_msg(schema_check_request("POST", "/v1/models/rail/predict", "{\"x\":[[0,0,0]]}", why, sizeof why), "%s", why);
    ck_assert(!schema_check_request("POST", "/v1/models/rail/predict", "{\"x\":[[0,0,0]],\"extra\":1}", why, sizeof why));
    ck_assert_msg(strstr(why, "/extra") != NULL, "%s", why);
    ck_assert(!schema_check_request("GET", "/healthz", "{}", why, sizeof why));
    char lines[1024];
    (void)snprintf(lines, sizeof lines, "%s\n%s\n", problem, problem);
    ck_assert_msg(schema_check_reply_lines("POST", "/v1/plans/batch", 200, lines, why, sizeof why), "%s", why);
    (void)snprintf(lines, sizeof lines, "%s\n%s\n", problem, alias);
    ck_assert(!schema_check_reply_lines("POST", "/v1/plans/batch", 200, lines, why, sizeof why));
}
END_TEST

int main(void) {
    Suite *suite = suite_create("schema");
    TCase *tcase = tcase_create("checker");
    tcase_add_loop_test(tcase, schema__each_keyword, 0, (int)(sizeof cases / sizeof cases[0]));
    tcase_add_test(tcase, schema__finds_the_operation_of_a_path);
    tcase_add_test(tcase, schema__takes_default_for_problems_only);
    tcase_add_test(tcase, schema__checks_requests_and_lines);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
