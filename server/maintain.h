/* SPDX-License-Identifier: Apache-2.0
 * What an operator does with a data directory from outside: check it, copy it, collect its garbage. */
#ifndef ESP_SERVER_MAINTAIN_H
#define ESP_SERVER_MAINTAIN_H

#include <stdbool.h>

/* `espalierd --check`, `--backup FILE`, `gc [--apply]`: true when the command line asks for one of them; then it has been done
 * and *ret_status is the exit status: 0 good, 1 something is wrong (said on standard output) or failed, 2 a bad option. */
bool esp_maintain_command(int argc, char **argv, int *ret_status);

#endif
