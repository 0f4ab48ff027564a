SELECT log FROM jobs WHERE app = ? AND id = ?
