# R's survey: grake(), the documented lower-level function behind calibrate(), so that nothing but the calibration is timed.
# Settings: epsilon = 1e-9, maxit = 50 (the default). Redundant levels are left out.
# Rscript run_survey.R MATRIX.bin records columns WEIGHTS.bin TARGETS.bin OUT.bin task repeat limit low high
suppressMessages(library(survey))
a <- commandArgs(trailingOnly = TRUE)
n <- as.integer(a[2]); p <- as.integer(a[3])
mm <- matrix(readBin(a[1], "double", n * p), n, p)
ww <- readBin(a[4], "double", n)
population <- readBin(a[5], "double", p)
task <- a[7]
status <- function(name) { s <- readLines("/proc/self/status"); as.numeric(gsub("[^0-9]", "", s[startsWith(s, paste0(name, ":"))])) * 1024 }
invisible(gc())
try(cat("5", file = "/proc/self/clear_refs"), silent = TRUE)
baseline <- status("VmRSS")
fun <- list(kl = cal.raking, margins = cal.raking, linear = cal.linear, truncated = cal.linear, logit = cal.logit)[[task]]
bounds <- if (task %in% c("truncated", "logit")) list(lower = as.numeric(a[10]), upper = as.numeric(a[11])) else list(lower = -Inf, upper = Inf)
seconds <- c()
began <- Sys.time()
for (i in seq_len(as.integer(a[8]))) {
  start <- Sys.time()
  g <- suppressWarnings(grake(mm, ww, calfun = fun, bounds = bounds, population = population, epsilon = 1e-9, verbose = FALSE, maxit = 50))
  seconds <- c(seconds, as.numeric(difftime(Sys.time(), start, units = "secs")))
  if (as.numeric(difftime(Sys.time(), began, units = "secs")) + seconds[i] > 0.5 * as.numeric(a[9])) break
}
claims <- if (is.null(attr(g, "failed"))) "true" else "false"
writeBin(as.double(ww * as.vector(g)), a[6])
cat(sprintf('\n{"seconds": %.6f, "first": %.6f, "calls": %d, "claims": %s, "memory": %.0f, "version": "%s", "note": ""}\n',
            min(seconds), seconds[1], length(seconds), claims, status("VmHWM") - baseline, as.character(packageVersion("survey"))))
