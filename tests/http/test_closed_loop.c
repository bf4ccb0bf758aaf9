/* SPDX-License-Identifier: Apache-2.0
 * Certify jobs of the kinds closed_loop, planning_loss and conformal over HTTP, and espalier-check on what they and the others
 * leave behind: true certificates are proved again from files alone, tampered ones are not. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "support/rail.h"

static test_daemon d;

/* A cart with friction, damped; a policy; the same with two weights gone. */
static const char plant[] =
    "{\"nu\":1,\"frame\":{\"a\":[[0.9,0.1],[-0.1,0.7]],\"b\":[[0],[0.1]],\"c\":[[0,1]],\"d\":[[0]],\"g\":[[0],[0.05]]},\"layers\":["
    "{\"w\":[[1],[-1],[0.5]],\"b\":[0.1,0.2,-0.1],\"activation\":\"relu\"},{\"w\":[[-0.5,0.4,0.3]],\"b\":[0.01],\"activation\":\"identity\"}]}";
static const char sparse_plant[] =
    "{\"nu\":1,\"frame\":{\"a\":[[0.9,0.1],[-0.1,0.7]],\"b\":[[0],[0.1]],\"c\":[[0,1]],\"d\":[[0]],\"g\":[[0],[0.05]]},\"layers\":["
    "{\"w\":[[1],[-1],[0]],\"b\":[0.1,0.2,0],\"activation\":\"relu\"},{\"w\":[[-0.5,0.4,0]],\"b\":[0.01],\"activation\":\"identity\"}]}";
static const char policy[] = "{\"layers\":[{\"w\":[[0.5,0.3],[-0.4,0.2],[0.1,-0.6],[0.02,0.03]],\"b\":[0.1,0,-0.1,0.05],\"activation\":\"relu\"},"
                             "{\"w\":[[-0.6,0.5,0.4,0.1]],\"b\":[0.02],\"activation\":\"identity\"}]}";
static const char pruned[] = "{\"layers\":[{\"w\":[[0.5,0.3],[-0.4,0.2],[0,-0.6],[0,0]],\"b\":[0.1,0,-0.1,0],\"activation\":\"relu\"},"
                             "{\"w\":[[-0.6,0.5,0.4,0]],\"b\":[0.02],\"activation\":\"identity\"}]}";

static void upload(const char *name, const char *kind, const char *json) {
    char path[128];
    snprintf(path, sizeof path, "/v1/models?name=%s&kind=%s", name, kind);
    http_reply reply = http_post(&d, path, "application/json", json, strlen(json));
    expect_status(reply, 201);
    http_done(&reply);
}

static void write_file(const char *name, const char *bytes, size_t len) {
    char path[160];
    snprintf(path, sizeof path, "%s/%s", d.dir, name);
    FILE *file = fopen(path, "wb");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(bytes, 1, len, file), len);
    ck_assert_int_eq(fclose(file), 0);
}

static void download(const char *model) {
    char path[128], name[80];
    snprintf(path, sizeof path, "/v1/models/%s/artifact?format=espalier", model);
    snprintf(name, sizeof name, "%s.espm", model);
    http_reply reply = http_get(&d, path);
    expect_status(reply, 200);
    write_file(name, reply.body, reply.len);
    http_done(&reply);
}

static http_reply run_job(const char *json) {
    char id[64];
    rail_submit(&d, json, id);
    http_reply job = rail_wait_end(&d, id, 60);
    ck_assert_msg(strcmp(reply_text(&job, "/state"), "succeeded") == 0, "%.600s", job.body);
    return job;
}

/* Certificate i of the job, whole, into the file `cert`, and its text for the caller. */
static http_reply fetch(const http_reply *job, size_t i) {
    char pointer[64], path[128];
    snprintf(pointer, sizeof pointer, "/result/certificates/%zu/id", i);
    snprintf(path, sizeof path, "/v1/bounds/%s", reply_text(job, pointer));
    http_reply whole = http_get(&d, path);
    expect_status(whole, 200);
    write_file("cert", whole.body, whole.len);
    return whole;
}

/* The file `cert` as if it had just come. */
static http_reply read_cert(void) {
    char path[160];
    http_reply reply = {.body = calloc(1, 1 << 20)};
    snprintf(path, sizeof path, "%s/cert", d.dir);
    FILE *file = fopen(path, "rb");
    ck_assert(file && reply.body);
    reply.len = fread(reply.body, 1, (1 << 20) - 1, file);
    fclose(file);
    return reply;
}

/* espalier-check on the file `cert` with the models in the daemon's directory that `files` names; its exit status. */
static int check(const char *files) {
    const char *build = getenv("ESPALIER_BUILD");
    char command[1024];
    snprintf(command, sizeof command, "here=$PWD; cd %s && \"$here\"/%s/espalier-check --seconds 20 --boxes 200000 cert %s > check.out 2>&1", d.dir,
             build ? build : "build/release", files);
    int status = system(command);
    ck_assert(WIFEXITED(status));
    return WEXITSTATUS(status);
}

/* The text with the first `from` replaced by `to`, into the file `cert`. */
static void tamper(const http_reply *whole, const char *from, const char *to) {
    const char *at = strstr(whole->body, from);
    ck_assert_msg(at != NULL, "no %s in %.400s", from, whole->body);
    size_t before = (size_t)(at - whole->body), len = before + strlen(to) + strlen(at + strlen(from));
    char *text = malloc(len + 1);
    ck_assert_ptr_nonnull(text);
    memcpy(text, whole->body, before);
    snprintf(text + before, len + 1 - before, "%s%s", to, at + strlen(from));
    write_file("cert", text, len);
    free(text);
}

static void tamper_number(const http_reply *whole, const char *key, double to) {
    char from[80], text[120];
    const char *at;
    snprintf(from, sizeof from, "\"%s\":", key);
    at = strstr(whole->body, from);
    ck_assert_ptr_nonnull(at);
    size_t len = strlen(from) + strcspn(at + strlen(from), ",}");
    ck_assert_uint_lt(len, sizeof from);
    char old[80];
    memcpy(old, at, len);
    old[len] = '\0';
    snprintf(text, sizeof text, "\"%s\":%.17g", key, to);
    tamper(whole, old, text);
}

/* ---- closed loops ---- */

#define LOOP                                                                                                                                         \
    "{\"kind\":\"certify\",\"spec\":{\"kind\":\"closed_loop\",\"policy\":\"pruned\",\"reference\":\"policy\",\"dynamics\":\"plant\",\"domain\":"     \
    "{\"lower\":[-1,-1],\"upper\":[1,1]},\"steps\":8,\"time_limit_s\":2}}"

static void step(const char *policy_name, double state[2]) {
    char path[80], x[160];
    snprintf(path, sizeof path, "/v1/models/%s/predict", policy_name);
    snprintf(x, sizeof x, "{\"x\":[[%.17g,%.17g]]}", state[0], state[1]);
    http_reply u = http_json(&d, "POST", path, x);
    expect_status(u, 200);
    snprintf(x, sizeof x, "{\"x\":[[%.17g,%.17g,%.17g]]}", state[0], state[1], reply_number(&u, "/y/0/0"));
    http_reply y = http_json(&d, "POST", "/v1/models/plant/predict", x);
    expect_status(y, 200);
    state[0] = reply_number(&y, "/y/0/0");
    state[1] = reply_number(&y, "/y/0/1");
    http_done(&u);
    http_done(&y);
}

START_TEST(closed_loop__tube_holds_loops_run_over_http) {
    http_reply job = run_job(LOOP);
    ck_assert_str_eq(reply_text(&job, "/result/certificates/0/kind"), "closed_loop");
    ck_assert_str_eq(reply_text(&job, "/result/certificates/0/method"), "tube");
    ck_assert_str_eq(reply_text(&job, "/result/certificates/0/strength"), "proved");
    http_reply tube = fetch(&job, 0);
    ck_assert_uint_eq(reply_count(&tube, "/record/radius"), 8);
    ck_assert(reply_number(&tube, "/value") >= reply_number(&tube, "/lower") && reply_number(&tube, "/lower") > 0);
    for (int corner = 0; corner < 5; corner++) {
        double a[2] = {corner & 1 ? 1 : -1, corner & 2 ? 1 : -1}, b[2];
        if (corner == 4) a[0] = reply_number(&tube, "/record/witness/0"), a[1] = reply_number(&tube, "/record/witness/1");
        memcpy(b, a, sizeof b);
        for (int k = 0; k < 8; k++) {
            char pointer[40];
            snprintf(pointer, sizeof pointer, "/record/radius/%d", k);
            step("pruned", a);
            step("policy", b);
            ck_assert(fmax(fabs(a[0] - b[0]), fabs(a[1] - b[1])) <= reply_number(&tube, pointer) + 1e-12);
        }
    }
    ck_assert(reply_number(&tube, "/record/forever/rho") < 1); /* this loop contracts, so there is a tube for ever */
    ck_assert_str_eq(reply_text(&job, "/result/certificates/3/method"), "forever");
    ck_assert(reply_number(&job, "/result/certificates/3/value") >= reply_number(&tube, "/value"));
    http_done(&tube);
    http_done(&job);
    http_reply rows = http_get(&d, "/v1/bounds?kind=closed_loop");
    expect_status(rows, 200);
    ck_assert_uint_ge(reply_count(&rows, "/items"), 3);
    http_done(&rows);
}
END_TEST

/* What is said of all steps is tried by itself: a smaller radius, a set that the loops leave, one without the domain. */
static void check_forever(const http_reply *whole, const char *all) {
    double radius = reply_number(whole, "/record/forever/radius"), lower = reply_number(whole, "/lower");
    ck_assert(lower > 0 && radius > lower);
    tamper_number(whole, "radius", 0.5 * lower);
    ck_assert_int_eq(check(all), 1);
    tamper_number(whole, "value", 0.5 * radius);
    ck_assert_int_eq(check(all), 1);
    tamper(whole, "\"holds\":true", "\"holds\":false");
    ck_assert_int_eq(check(all), 1);
    tamper(whole, "\"set\":{\"lower\":[", "\"set\":{\"lower\":[0.5,");
    ck_assert_int_eq(check(all), 1); /* a number too many */
    char from[64], to[64];
    const char *at = strstr(whole->body, "\"set\":{\"lower\":[");
    ck_assert_ptr_nonnull(at);
    snprintf(from, sizeof from, "%.*s", (int)(strcspn(at, ",") + 1), at);
    snprintf(to, sizeof to, "\"set\":{\"lower\":[-0.99,");
    tamper(whole, from, to);
    ck_assert_int_eq(check(all), 1); /* the domain begins at -1 */
}

START_TEST(closed_loop__is_checked_and_tampering_is_seen) {
    http_reply job = run_job(LOOP);
    download("plant");
    download("policy");
    download("pruned");
    const char all[] = "plant.espm policy.espm pruned.espm";
    size_t n = reply_count(&job, "/result/certificates");
    for (size_t i = 0; i < n; i++) {
        http_reply whole = fetch(&job, i);
        ck_assert_int_eq(check(all), 0);
        if (strcmp(reply_text(&whole, "/method"), "forever") == 0) check_forever(&whole, all);
        http_done(&whole);
    }
    http_reply whole = fetch(&job, 0);
    ck_assert_int_eq(check("plant.espm policy.espm"), 2); /* a model is missing */
    tamper_number(&whole, "value", 0.5 * reply_number(&whole, "/lower"));
    ck_assert_int_eq(check(all), 1);
    tamper(&whole, "\"radius\":[", "\"radius\":[1e-7,");
    ck_assert_int_eq(check(all), 1); /* one radius too many */
    tamper_number(&whole, "steps", 9);
    ck_assert_int_eq(check(all), 1);
    tamper(&whole, "\"upper\":[1,1]", "\"upper\":[2,1]");
    ck_assert_int_eq(check(all), 1); /* not the domain of the hash */
    http_done(&whole);
    http_done(&job);
}
END_TEST

START_TEST(closed_loop__refuses_what_does_not_fit) {
    static const struct {
        const char *spec, *pointer;
        int status;
    } cases[] = {
        {"\"policy\":\"plant\",\"reference\":\"policy\",\"dynamics\":\"plant\",\"domain\":{\"lower\":[0,0],\"upper\":[1,1]},\"steps\":2",
         "/spec/policy", 422},
        {"\"policy\":\"pruned\",\"reference\":\"policy\",\"dynamics\":\"policy\",\"domain\":{\"lower\":[0,0],\"upper\":[1,1]},\"steps\":2",
         "/spec/dynamics", 422},
        {"\"policy\":\"pruned\",\"reference\":\"nobody\",\"dynamics\":\"plant\",\"domain\":{\"lower\":[0,0],\"upper\":[1,1]},\"steps\":2",
         "/spec/reference", 422},
        {"\"policy\":\"pruned\",\"reference\":\"policy\",\"dynamics\":\"plant\",\"domain\":{\"lower\":[0,0,0],\"upper\":[1,1,1]},\"steps\":2",
         "/spec/domain/lower", 400},
        {"\"policy\":\"pruned\",\"reference\":\"policy\",\"dynamics\":\"plant\",\"domain\":{\"lower\":[0,0],\"upper\":[1,1]},\"steps\":0",
         "/spec/steps", 400},
        {"\"policy\":\"pruned\",\"reference\":\"policy\",\"dynamics\":\"plant\",\"domain\":{\"lower\":[0,0],\"upper\":[1,1]},\"steps\":2,\"gap\":1",
         "/spec/gap", 400},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char body[512];
        snprintf(body, sizeof body, "{\"kind\":\"certify\",\"spec\":{\"kind\":\"closed_loop\",%s}}", cases[i].spec);
        http_reply reply = http_json(&d, "POST", "/v1/jobs", body);
        expect_problem(&reply, cases[i].status, cases[i].status == 400 ? "INVALID" : "UNPROCESSABLE", cases[i].pointer);
        http_done(&reply);
    }
    http_reply reply = http_json(&d, "POST", "/v1/jobs", "{\"kind\":\"certify\",\"spec\":{\"kind\":\"oracle\"}}");
    expect_problem(&reply, 400, "INVALID", "/spec/kind");
    http_done(&reply);
}
END_TEST

/* ---- planning loss ---- */

#define LOSS(more)                                                                                                                                   \
    "{\"kind\":\"certify\",\"spec\":{\"kind\":\"planning_loss\",\"model\":\"sparse\",\"reference\":\"plant\",\"domain\":{\"lower\":[-1,-1],"         \
    "\"upper\":[1,1]},\"time_limit_s\":2," more "}}"
#define COST                                                                                                                                         \
    "\"cost\":{\"stage\":[{\"on\":\"y\",\"index\":[0],\"weight\":1,\"norm\":\"l1\",\"target\":\"goal\"},{\"on\":\"u\",\"weight\":1,\"norm\":\"l1\"}" \
    "]}"

START_TEST(planning_loss__is_proved_and_checked) {
    rail_store_task(&d, "go", "plant", 6);
    download("plant");
    download("sparse");
    const char *const jobs[] = {LOSS("\"task\":\"go\""), LOSS("\"horizon\":6," COST ",\"input\":{\"lower\":[-1],\"upper\":[1]}")};
    for (int i = 0; i < 2; i++) {
        http_reply job = run_job(jobs[i]);
        ck_assert_str_eq(reply_text(&job, "/result/certificates/0/kind"), "planning_loss");
        http_reply whole = fetch(&job, 0);
        double value = reply_number(&whole, "/value"), eta = reply_number(&whole, "/record/eta");
        ck_assert(value > 0 && value >= 2 * eta && value <= 2.0001 * eta);
        ck_assert_uint_eq(reply_count(&whole, "/record/deviation"), 6);
        ck_assert_int_eq(check("plant.espm sparse.espm"), 0);
        tamper_number(&whole, "eta", 0.1 * eta);
        ck_assert_int_eq(check("plant.espm sparse.espm"), 1);
        tamper(&whole, "\"weight\":[1]", "\"weight\":[9]");
        ck_assert_int_eq(check("plant.espm sparse.espm"), 1);
        http_done(&whole);
        whole = fetch(&job, 1);
        ck_assert_str_eq(reply_text(&whole, "/method"), "product");
        ck_assert_uint_eq(reply_count(&whole, "/record/epsilon"), 6);
        ck_assert_int_eq(check("plant.espm sparse.espm"), 0);
        tamper_number(&whole, "eta", 0.1 * reply_number(&whole, "/record/eta"));
        ck_assert_int_eq(check("plant.espm sparse.espm"), 1);
        tamper(&whole, "\"deviation\":[", "\"deviation\":[1e-9,");
        ck_assert_int_eq(check("plant.espm sparse.espm"), 1);
        tamper(&whole, "\"weight\":[1]", "\"weight\":[9]");
        ck_assert_int_eq(check("plant.espm sparse.espm"), 1);
        http_done(&whole);
        http_done(&job);
    }
}
END_TEST

START_TEST(planning_loss__refuses_what_proves_nothing) {
    static const struct {
        const char *body, *pointer;
        int status;
    } cases[] = {
        {LOSS("\"task\":\"go\",\"horizon\":3"), "/spec/horizon", 400},
        {LOSS("\"horizon\":3," COST), "/spec/input", 400},
        {LOSS("\"horizon\":3,\"cost\":{\"stage\":[{\"on\":\"y\",\"weight\":1,\"norm\":\"l3\"}]},\"input\":{\"lower\":[-1],\"upper\":[1]}"),
         "/spec/cost/stage/0/norm", 400},
        {LOSS("\"horizon\":3,\"cost\":{\"stage\":[{\"on\":\"y\",\"weight\":1,\"norm\":\"l2sq\",\"target\":\"goal\"}]},\"input\":{\"lower\":[-1],"
              "\"upper\":[1]}"),
         "/spec/goal", 400},
        {LOSS("\"task\":\"fenced\""), "/spec/task", 422},
    };
    http_reply task = http_json(&d, "POST", "/v1/tasks",
                                "{\"name\":\"fenced\",\"model\":\"plant\",\"horizon\":3," COST
                                ",\"input\":{\"lower\":[-1],\"upper\":[1]},\"state\":{\"lower\":[-1,-1],\"upper\":[1,1]}}");
    expect_status(task, 201);
    http_done(&task);
    rail_store_task(&d, "go", "plant", 6);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        http_reply reply = http_json(&d, "POST", "/v1/jobs", cases[i].body);
        expect_problem(&reply, cases[i].status, cases[i].status == 400 ? "INVALID" : "UNPROCESSABLE", cases[i].pointer);
        http_done(&reply);
    }
}
END_TEST

/* ---- conformal ---- */

START_TEST(conformal__says_how_good_a_model_is_on_held_out_data) {
    rail_upload_data(&d, "held-out", 40);
    http_reply job = run_job(
        "{\"kind\":\"certify\",\"spec\":{\"kind\":\"conformal\",\"model\":\"plant\",\"dataset\":\"held-out\",\"coverage\":0.9,\"horizon\":5}}");
    ck_assert_uint_eq(reply_count(&job, "/result/certificates"), 2);
    ck_assert_str_eq(reply_text(&job, "/result/certificates/0/kind"), "one_step");
    ck_assert_str_eq(reply_text(&job, "/result/certificates/1/kind"), "multi_step");
    ck_assert_str_eq(reply_text(&job, "/result/certificates/1/strength"), "statistical");
    ck_assert(reply_number(&job, "/result/certificates/1/value") >= reply_number(&job, "/result/certificates/0/value"));
    http_reply whole = fetch(&job, 1);
    ck_assert_double_eq(reply_number(&whole, "/record/sample_size"), 40);
    ck_assert_double_eq(reply_number(&whole, "/record/rank"), 37);
    ck_assert_double_eq(reply_number(&whole, "/record/coverage"), 0.9);
    ck_assert_uint_eq(reply_count(&whole, "/record/steps"), 5);
    ck_assert_int_eq(check(""), 2); /* statistics is not for proving */
    http_done(&whole);
    http_done(&job);
}
END_TEST

START_TEST(conformal__refuses_too_few_trajectories_and_training_data) {
    rail_upload_data(&d, "few", 8);
    http_reply reply = http_json(&d, "POST", "/v1/jobs",
                                 "{\"kind\":\"certify\",\"spec\":{\"kind\":\"conformal\",\"model\":\"plant\",\"dataset\":\"few\",\"coverage\":0.9}}");
    expect_problem(&reply, 422, "UNPROCESSABLE", "/spec/coverage");
    http_done(&reply);
    rail_upload_data(&d, "seen", 30);
    http_reply job =
        run_job("{\"kind\":\"train\",\"spec\":{\"dataset\":\"seen\",\"name\":\"learnt\",\"model\":{\"type\":\"mlp\",\"hidden\":[4]},\"epochs\":1,"
                "\"rung_epochs\":1,\"ladder\":[2]}}");
    http_done(&job);
    rail_upload_data(&d, "seen-again", 30); /* the same bytes under another name */
    const char *const bodies[] = {
        "{\"kind\":\"certify\",\"spec\":{\"kind\":\"conformal\",\"model\":\"learnt\",\"dataset\":\"seen\",\"coverage\":0.9}}",
        "{\"kind\":\"certify\",\"spec\":{\"kind\":\"conformal\",\"model\":\"learnt/2\",\"dataset\":\"seen-again\",\"coverage\":0.9}}",
    };
    for (int i = 0; i < 2; i++) {
        reply = http_json(&d, "POST", "/v1/jobs", bodies[i]);
        expect_problem(&reply, 422, "UNPROCESSABLE", "/spec/dataset");
        http_done(&reply);
    }
}
END_TEST

/* ---- the checker on the other kinds ---- */

/* Each constant counts, and nothing but the layers that there are. */
static void check_constants(const http_reply *whole, const char *all) {
    size_t layers = reply_count(whole, "/record/layers");
    ck_assert_uint_ge(layers, 1);
    for (size_t k = 0; k < layers; k++) {
        char pointer[40], from[96], to[96];
        snprintf(pointer, sizeof pointer, "/record/layers/%zu/c", k);
        snprintf(to, sizeof to, ",\"layer\":%zu}", k + 1);
        const char *end = strstr(whole->body, to), *at = end;
        ck_assert_ptr_nonnull(at);
        while (at > whole->body && *at != '{') at--;
        snprintf(from, sizeof from, "%.*s", (int)(end - at), at);
        snprintf(to, sizeof to, "{\"c\":%.17g", 0.6 * reply_number(whole, pointer));
        tamper(whole, from, to);
        ck_assert_int_eq(check(all), 1);
    }
    tamper_number(whole, "layer", 7);
    ck_assert_int_eq(check(all), 1);
}

START_TEST(check__proves_the_certificates_of_models_again) {
    static const char *const specs[] = {
        "\"model\":\"pruned\",\"reference\":\"policy\",\"domain\":{\"lower\":[-1,-1],\"upper\":[1,1]},\"time_limit_s\":1",
        "\"model\":\"pruned\",\"reference\":\"policy\",\"domain\":{\"lower\":[-1,-1],\"upper\":[1,1]},\"norm\":\"l2\",\"time_limit_s\":1",
        "\"model\":\"plant\",\"domain\":{\"lower\":[-1,-1,-1],\"upper\":[1,1,1]},\"norm\":\"l2\",\"time_limit_s\":1",
        "\"model\":\"sparse\",\"reference\":\"plant\",\"domain\":{\"lower\":[-1,-1,-1],\"upper\":[1,1,1]},\"time_limit_s\":1",
    };
    const char all[] = "plant.espm sparse.espm policy.espm pruned.espm";
    download("plant");
    download("sparse");
    download("policy");
    download("pruned");
    for (size_t s = 0; s < sizeof specs / sizeof *specs; s++) {
        char body[512];
        snprintf(body, sizeof body, "{\"kind\":\"certify\",\"spec\":{%s}}", specs[s]);
        http_reply job = run_job(body);
        for (size_t i = 0; i < reply_count(&job, "/result/certificates"); i++) {
            http_reply whole = fetch(&job, i);
            int status = check(all);
            ck_assert_msg(status == 0, "%d for %.300s", status, whole.body);
            if (strcmp(reply_text(&whole, "/kind"), "closed_form") == 0) check_constants(&whole, all);
            http_done(&whole);
        }
        http_done(&job);
    }
}
END_TEST

START_TEST(check__refuses_tampered_certificates) {
    const char all[] = "policy.espm pruned.espm";
    http_reply job =
        run_job("{\"kind\":\"certify\",\"spec\":{\"model\":\"pruned\",\"reference\":\"policy\",\"domain\":{\"lower\":[-1,-1],\"upper\":[1,1]},"
                "\"methods\":[\"split\"],\"time_limit_s\":1}}");
    http_reply whole = fetch(&job, 0);
    download("policy");
    download("pruned");
    ck_assert_int_eq(check(all), 0);
    const char *tree = reply_text(&whole, "/record/tree");
    double value = reply_number(&whole, "/value"), lower = reply_number(&whole, "/lower");
    ck_assert(lower > 0);
    tamper_number(&whole, "value", 0.99 * lower); /* less than what is reached */
    ck_assert_int_eq(check(all), 1);
    tamper(&whole, "\"upper\":[1,1]", "\"upper\":[3,1]");
    ck_assert_int_eq(check(all), 1);
    tamper_number(&whole, "lower", 1.5 * value);
    ck_assert_int_eq(check(all), 1);
    tamper_number(&whole, "lower", 0.5 * (lower + value) + 1e-6); /* a witness that does not reach it, or beyond the value */
    ck_assert_int_eq(check(all), 1);
    char from[80], to[80];
    snprintf(from, sizeof from, "\"tree\":\"%.20s", tree);
    snprintf(to, sizeof to, "\"tree\":\"%.19s", tree + 1);
    tamper(&whole, from, strlen(tree) > 1 ? to : "\"tree\":\""); /* the first split, or the only leaf, is gone */
    ck_assert_int_eq(check(all), 1);
    snprintf(from, sizeof from, "%.64s", reply_text(&whole, "/record/model_sha256"));
    tamper(&whole, from, "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef");
    ck_assert_int_eq(check(all), 2); /* nobody has that model */
    tamper(&whole, "\"version\":1", "\"version\":2");
    ck_assert_int_eq(check(all), 2);
    write_file("cert", whole.body, whole.len / 2);
    ck_assert_int_eq(check(all), 1);
    http_done(&whole);
    http_done(&job);
}
END_TEST

/* Whole and consistent, every hash right, nothing said to be reached: only that it is false speaks against it. */
START_TEST(check__does_not_prove_what_is_false) {
    const char all[] = "policy.espm pruned.espm";
    static const char *const specs[] = {"\"model\":\"pruned\"", "\"model\":\"pruned\",\"reference\":\"policy\""};
    download("policy");
    download("pruned");
    for (int s = 0; s < 2; s++) {
        char body[256];
        snprintf(body, sizeof body, "{\"kind\":\"certify\",\"spec\":{%s,\"domain\":{\"lower\":[-1,-1],\"upper\":[1,1]},\"methods\":[\"split\"]}}",
                 specs[s]);
        http_reply job = run_job(body);
        for (size_t i = 0; i < reply_count(&job, "/result/certificates"); i++) {
            http_reply whole = fetch(&job, i), honest;
            double lower = reply_number(&whole, "/lower");
            ck_assert(lower > 0);
            tamper_number(&whole, "lower", 0);
            ck_assert_int_eq(check(all), 0); /* it claims less, and holds */
            honest = read_cert();
            tamper_number(&honest, "value", 0.999 * lower);
            ck_assert_msg(check(all) == 1, "%.300s", whole.body);
            http_done(&honest);
            http_done(&whole);
        }
        http_done(&job);
    }
}
END_TEST

static void setup(void) {
    upload("plant", "dynamics", plant);
    upload("sparse", "dynamics", sparse_plant);
    upload("policy", "policy", policy);
    upload("pruned", "policy", pruned);
}

int main(void) {
    daemon_start(&d, NULL);
    Suite *suite = suite_create("closed_loop");
    TCase *tc = tcase_create("http");
    tcase_set_timeout(tc, 120);
    tcase_add_unchecked_fixture(tc, setup, NULL);
    tcase_add_test(tc, closed_loop__tube_holds_loops_run_over_http);
    tcase_add_test(tc, closed_loop__is_checked_and_tampering_is_seen);
    tcase_add_test(tc, closed_loop__refuses_what_does_not_fit);
    tcase_add_test(tc, planning_loss__is_proved_and_checked);
    tcase_add_test(tc, planning_loss__refuses_what_proves_nothing);
    tcase_add_test(tc, conformal__says_how_good_a_model_is_on_held_out_data);
    tcase_add_test(tc, conformal__refuses_too_few_trajectories_and_training_data);
    tcase_add_test(tc, check__proves_the_certificates_of_models_again);
    tcase_add_test(tc, check__refuses_tampered_certificates);
    tcase_add_test(tc, check__does_not_prove_what_is_false);
    suite_add_tcase(suite, tc);
    return daemon_finish(&d, run_suite(suite));
}
