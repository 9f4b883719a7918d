# One lme4 run in a fresh process: Rscript lme4_child.R '<job as JSON>'.  Prints one line of JSON.

suppressPackageStartupMessages({
  library(lme4)
  library(jsonlite)
})
job <- fromJSON(commandArgs(trailingOnly = TRUE)[1])

peak_megabytes <- function() {
  status <- "/proc/self/status"
  if (!file.exists(status)) return(NA)
  line <- grep("^VmHWM", readLines(status), value = TRUE)
  as.numeric(gsub("[^0-9]", "", line)) / 1024
}

frame <- read.csv(job$csv)
for (column in job$factors) frame[[column]] <- factor(frame[[column]])
formula <- as.formula(job$formula)
suppressWarnings(lmer(Reaction ~ Days + (Days | Subject), sleepstudy)) # warm-up
invisible(gc())

times <- numeric(job$calls)
for (call in seq_len(job$calls)) {
  started <- Sys.time()
  fit <- suppressWarnings(lmer(formula, frame, REML = job$method == "reml"))
  times[call] <- as.numeric(difftime(Sys.time(), started, units = "secs"))
}
components <- as.data.frame(VarCorr(fit))
label <- function(row) paste(na.omit(as.character(row)), collapse = ".")
cat(toJSON(list(
  seconds = I(times), megabytes = peak_megabytes(), version = as.character(packageVersion("lme4")),
  llf = as.numeric(logLik(fit)), labels = I(apply(components[c("grp", "var1", "var2")], 1, label)),
  components = I(components$vcov),
  note = paste(fit@optinfo$feval, "evaluations, BLAS", basename(extSoftVersion()[["BLAS"]]))
), digits = I(14), auto_unbox = TRUE), "\n")
