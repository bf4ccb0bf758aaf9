/* SPDX-License-Identifier: Apache-2.0
 * Files carried inside the daemon, byte for byte; server/embed.h names them. Each ends with a NUL after its last byte. */
        .section .rodata
        .macro  embed name, path
        .balign 16
        .globl  \name
        .hidden \name
        .type   \name, %object
\name:  .incbin "\path"
        .globl  \name\()_end
        .hidden \name\()_end
\name\()_end:
        .byte   0
        .endm

        embed   esp_embed_openapi, "schema/api/openapi.json"
        embed   esp_embed_db_0001, "schema/db/0001_init.sql"
        embed   esp_embed_db_0002, "schema/db/0002_service.sql"
        embed   esp_embed_db_0003, "schema/db/0003_lists.sql"
        embed   esp_embed_db_0004, "schema/db/0004_jobs.sql"
        embed   esp_embed_db_0005, "schema/db/0005_graphs.sql"

        .section .note.GNU-stack, "", %progbits
