-- SPDX-License-Identifier: Apache-2.0
-- What a graph network's objects are: {"objects","size","first","shared","radius","rounds","relu_per_object","relu_per_edge","neurons"}.
-- NULL for a plain network. ny and relu of the row are for `objects` of them, all joined.
ALTER TABLE model ADD COLUMN graph TEXT CHECK (graph IS NULL OR json_valid(graph));
