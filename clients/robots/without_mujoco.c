/* SPDX-License-Identifier: Apache-2.0
 * Takes the place of mujoco/ where MuJoCo is not installed: its robots have a name and no world. */
#include "robots/robot.h"

const esp_robot esp_robot_cartpole = {.name = "cartpole"}, esp_robot_reacher = {.name = "reacher"};
