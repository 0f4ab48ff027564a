DELETE FROM jobs WHERE app = ? AND id = ?
