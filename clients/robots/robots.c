/* SPDX-License-Identifier: Apache-2.0
 * The list of simulated robots (robot.h). */
#include <string.h>

#include "robots/robot.h"

const esp_robot *const esp_robots[] = {&esp_robot_pushing,  &esp_robot_rope,     &esp_robot_cartpole,
                                       &esp_robot_reacher,  &esp_robot_sorting2, &esp_robot_sorting3,
                                       &esp_robot_sorting4, &esp_robot_sorting8, NULL};

const esp_robot *esp_robot_find(const char *name) {
    for (int i = 0; esp_robots[i] != NULL; i++)
        if (strcmp(esp_robots[i]->name, name) == 0) return esp_robots[i];
    return NULL;
}
