// Ponder starts only with a file here; nobody asks it anything.
import { Hono } from "hono";

export default new Hono();
