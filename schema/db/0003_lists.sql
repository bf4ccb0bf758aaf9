-- SPDX-License-Identifier: Apache-2.0
-- An index for every filter and sort of the lists of models and certificates. Rows of both are only ever added, so the rowid is
-- their order of creation: an index on one column gives its values in order and equal ones newest last, which is every page.

-- What a certificate's row shows of its model; neither ever changes.
ALTER TABLE certificate ADD COLUMN model_name TEXT;
ALTER TABLE certificate ADD COLUMN model_version INTEGER;
ALTER TABLE certificate ADD COLUMN relu INTEGER;
ALTER TABLE certificate ADD COLUMN sparsity REAL;
CREATE TRIGGER certificate_shows_model AFTER INSERT ON certificate
BEGIN
    UPDATE certificate SET (model_name, model_version, relu, sparsity) =
        (SELECT m.name, m.version, m.relu, 1.0 - 1.0 * m.nonzero / m.parameters FROM model m WHERE m.id = NEW.model)
    WHERE rowid = NEW.rowid;
END;
UPDATE certificate SET (model_name, model_version, relu, sparsity) =
    (SELECT m.name, m.version, m.relu, 1.0 - 1.0 * m.nonzero / m.parameters FROM model m WHERE m.id = certificate.model);

DROP INDEX model_created;
DROP INDEX model_relu;
CREATE INDEX model_by_name ON model (name);
CREATE INDEX model_by_version ON model (version);
CREATE INDEX model_by_kind ON model (kind);
CREATE INDEX model_by_ny ON model (ny);
CREATE INDEX model_by_nu ON model (nu);
CREATE INDEX model_by_history ON model (history);
CREATE INDEX model_by_relu ON model (relu);
CREATE INDEX model_by_parameters ON model (parameters);
CREATE INDEX model_by_nonzero ON model (nonzero);
CREATE INDEX model_by_sparsity ON model (1.0 - 1.0 * nonzero / parameters);
CREATE INDEX model_by_rmse ON model (json_extract(metrics, '$.validation_rmse'));
CREATE INDEX model_by_sha256 ON model (sha256);
CREATE INDEX model_by_created ON model (created_ms);

DROP INDEX certificate_model;
DROP INDEX certificate_created;
DROP INDEX certificate_value;
CREATE INDEX certificate_by_model ON certificate (model);
CREATE INDEX certificate_by_model_name ON certificate (model_name);
CREATE INDEX certificate_by_model_version ON certificate (model_version);
CREATE INDEX certificate_by_kind ON certificate (kind);
CREATE INDEX certificate_by_relu ON certificate (relu);
CREATE INDEX certificate_by_sparsity ON certificate (sparsity);
CREATE INDEX certificate_by_norm ON certificate (norm);
CREATE INDEX certificate_by_domain ON certificate (nullif(domain_sha256, ''));
CREATE INDEX certificate_by_value ON certificate (value);
CREATE INDEX certificate_by_lower ON certificate (lower);
CREATE INDEX certificate_by_method ON certificate (method);
CREATE INDEX certificate_by_strength ON certificate (strength);
CREATE INDEX certificate_by_tolerance ON certificate (tolerance);
CREATE INDEX certificate_by_status ON certificate (status);
CREATE INDEX certificate_by_seconds ON certificate (seconds);
CREATE INDEX certificate_by_created ON certificate (created_ms);
