SELECT id FROM apps WHERE prefix = ?
