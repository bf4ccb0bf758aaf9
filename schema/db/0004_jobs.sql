-- SPDX-License-Identifier: Apache-2.0
-- A job that lost its worker is not started again before this time; 0: at once. Milliseconds since 1970, as all times.
ALTER TABLE job ADD COLUMN not_before_ms INTEGER NOT NULL DEFAULT 0;
