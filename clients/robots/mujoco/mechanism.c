/* SPDX-License-Identifier: Apache-2.0
 * MuJoCo behind mechanism.h. Models are made from the text once and kept: a world is their state alone. */
#include "robots/mujoco/mechanism.h"

#include <mujoco/mujoco.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MODELS = 8, DOFS = 16 };

struct esp_mechanism {
    const mjModel *model;
    mjData *data;
};

static void give_up(const char *message) {
    fprintf(stderr, "MuJoCo: %s\n", message);
    exit(1);
}

static mjModel *load(const char *xml) {
    static const char name[] = "mechanism.xml";
    char error[512] = "";
    mjVFS *files = malloc(sizeof *files);
    if (files == NULL) return NULL;
    mj_defaultVFS(files);
    int at = mj_makeEmptyFileVFS(files, name, (int)strlen(xml));
    if (at < 0) give_up("no room for a description");
    memcpy(files->filedata[at], xml, strlen(xml));
    mjModel *model = mj_loadXML(name, files, error, sizeof error);
    if (model == NULL) give_up(error);
    mj_deleteVFS(files);
    free(files);
    return model;
}

/* The model of a description, which is told by its address; they stay until the program ends. */
static const mjModel *model_of(const char *xml) {
    static struct {
        const char *xml;
        mjModel *model;
    } known[MODELS];
    int i = 0;
    while (i < MODELS && known[i].xml != NULL && known[i].xml != xml) i++;
    if (i == MODELS) give_up("too many descriptions");
    if (known[i].xml == NULL) known[i].model = load(xml);
    if (known[i].model != NULL) known[i].xml = xml;
    return known[i].model;
}

esp_mechanism *esp_mechanism_create(const char *xml) {
    esp_mechanism *mechanism = calloc(1, sizeof *mechanism);
    if (mechanism == NULL) return NULL;
    mechanism->model = model_of(xml);
    mechanism->data = mechanism->model != NULL ? mj_makeData(mechanism->model) : NULL;
    if (mechanism->data != NULL) return mechanism;
    free(mechanism);
    return NULL;
}

void esp_mechanism_free(esp_mechanism *mechanism) {
    if (mechanism == NULL) return;
    mj_deleteData(mechanism->data);
    free(mechanism);
}

double *esp_mechanism_q(esp_mechanism *mechanism) {
    return mechanism->data->qpos;
}

double *esp_mechanism_v(esp_mechanism *mechanism) {
    return mechanism->data->qvel;
}

void esp_mechanism_control(esp_mechanism *mechanism, const double *u) {
    for (int i = 0; i < mechanism->model->nu; i++) mechanism->data->ctrl[i] = u[i];
}

const double *esp_mechanism_accelerations(esp_mechanism *mechanism) {
    mj_forward(mechanism->model, mechanism->data);
    return mechanism->data->qacc;
}

void esp_mechanism_step(esp_mechanism *mechanism, int n) {
    for (int i = 0; i < n; i++) mj_step(mechanism->model, mechanism->data);
}

void esp_mechanism_place(esp_mechanism *mechanism, const char *body, double ret_place[3]) {
    int id = mj_name2id(mechanism->model, mjOBJ_BODY, body);
    if (id < 0) give_up("a body that the description lacks");
    mj_kinematics(mechanism->model, mechanism->data);
    for (int i = 0; i < 3; i++) ret_place[i] = mechanism->data->xpos[3 * id + i];
}

double esp_mechanism_kinetic(esp_mechanism *mechanism) {
    double momentum[DOFS], sum = 0.0;
    int nv = mechanism->model->nv;
    if (nv > DOFS) give_up("too many joints");
    mj_forward(mechanism->model, mechanism->data);
    mj_mulM(mechanism->model, mechanism->data, momentum, mechanism->data->qvel);
    for (int i = 0; i < nv; i++) sum += 0.5 * momentum[i] * mechanism->data->qvel[i];
    return sum;
}

double esp_mechanism_mass(const esp_mechanism *mechanism) {
    return mj_getTotalmass(mechanism->model);
}
