/* SPDX-License-Identifier: Apache-2.0
 * The version of the service, said by --version, /metrics, READY frames and certificates. */
#ifndef ESP_SERVER_VERSION_H
#define ESP_SERVER_VERSION_H

#define ESP_VERSION "0.1.0"

#endif
