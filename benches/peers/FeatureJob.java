// W1 by Flink's DataStream API, written by hand for it: one row of keyed state per user, with the latest values and the counts and sums of
// the hour and of the day that are running (a window is emitted when the next one begins). Reading and lateness run once, as in a log of
// one partition; the keyed state in parallel, in RocksDB, with incremental checkpoints.
//
// arguments: FILE PARALLELISM CHECKPOINT_MS FOLDER_FOR_STATE
// Prints as its last line what it found: kept=… users=… cents=…

import java.util.Set;
import org.apache.flink.api.common.JobExecutionResult;
import org.apache.flink.api.common.accumulators.LongCounter;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.functions.RichFlatMapFunction;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.connector.file.src.FileSource;
import org.apache.flink.connector.file.src.reader.TextLineInputFormat;
import org.apache.flink.core.fs.Path;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.core.JsonFactory;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.core.JsonParser;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.core.JsonToken;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.KeyedProcessFunction;
import org.apache.flink.streaming.api.functions.sink.v2.DiscardingSink;
import org.apache.flink.util.Collector;

public class FeatureJob {
  static final long HOUR_MS = 3_600_000, DAY_MS = 24 * HOUR_MS, DEADLINE_MS = 1_800_000;
  static final Set<String> STATUSES = Set.of("approved", "declined", "refunded", "pending");

  public static class Payment {
    public String user, merchant, status;
    public double amount;
    public long ts;
    public Payment() {}
  }

  /** Decodes, validates, and drops what is late. */
  public static class Parse extends RichFlatMapFunction<String, Payment> {
    private transient JsonFactory json;
    private final LongCounter kept = new LongCounter();
    private long watermark = Long.MIN_VALUE;

    @Override public void open(OpenContext context) {
      json = new JsonFactory();
      getRuntimeContext().addAccumulator("kept", kept);
    }

    @Override public void flatMap(String line, Collector<Payment> out) {
      Payment payment = new Payment();
      int found = 0;
      try (JsonParser parser = json.createParser(line)) { // token by token, no tree
        if (parser.nextToken() != JsonToken.START_OBJECT) return;
        while (parser.nextToken() != JsonToken.END_OBJECT) {
          String field = parser.getCurrentName();
          parser.nextToken();
          switch (field) {
            case "user_id": payment.user = parser.getText(); found |= 1; break;
            case "merchant": payment.merchant = parser.getText(); found |= 2; break;
            case "amount": payment.amount = parser.getDoubleValue(); found |= 4; break;
            case "status": payment.status = parser.getText(); found |= 8; break;
            case "ts": payment.ts = parser.getLongValue(); found |= 16; break;
            default: parser.skipChildren();
          }
        }
      } catch (Exception malformed) {
        return;
      }
      if (found != 31 || payment.amount <= 0 || !STATUSES.contains(payment.status)) return;
      if (payment.ts > watermark) watermark = payment.ts;
      if (payment.ts < watermark - DEADLINE_MS) return;
      kept.add(1);
      out.collect(payment);
    }
  }

  /** What is kept of a user. */
  public static class User {
    public String merchant, status;
    public double amount, hourSum, daySum;
    public long ts = Long.MIN_VALUE, hour = -1, hourCount, day = -1, dayCount;
    public User() {}
  }

  /** A window that has ended. */
  public static class Window {
    public String user;
    public long start, length, count;
    public double sum;
    public Window() {}
    Window(String user, long start, long length, long count, double sum) {
      this.user = user; this.start = start; this.length = length; this.count = count; this.sum = sum;
    }
  }

  public static class Aggregate extends KeyedProcessFunction<String, Payment, Window> {
    private transient ValueState<User> state;
    private final LongCounter users = new LongCounter(), cents = new LongCounter();

    @Override public void open(OpenContext context) {
      state = getRuntimeContext().getState(new ValueStateDescriptor<>("user", User.class));
      getRuntimeContext().addAccumulator("users", users);
      getRuntimeContext().addAccumulator("cents", cents);
    }

    @Override public void processElement(Payment payment, Context context, Collector<Window> out) throws Exception {
      User user = state.value();
      if (user == null) {
        user = new User();
        users.add(1);
      }
      long hour = payment.ts / HOUR_MS, day = payment.ts / DAY_MS;
      if (hour != user.hour) {
        if (user.hour >= 0) out.collect(new Window(payment.user, user.hour * HOUR_MS, HOUR_MS, user.hourCount, user.hourSum));
        user.hour = hour;
        user.hourCount = 0;
        user.hourSum = 0;
      }
      if (day != user.day) {
        if (user.day >= 0) out.collect(new Window(payment.user, user.day * DAY_MS, DAY_MS, user.dayCount, user.daySum));
        user.day = day;
        user.dayCount = 0;
        user.daySum = 0;
      }
      user.hourCount++;
      user.hourSum += payment.amount;
      user.dayCount++;
      user.daySum += payment.amount;
      cents.add(Math.round(payment.amount * 100));
      if (payment.ts >= user.ts) {
        user.ts = payment.ts;
        user.merchant = payment.merchant;
        user.amount = payment.amount;
        user.status = payment.status;
      }
      state.update(user);
    }
  }

  public static void main(String[] arguments) throws Exception {
    Configuration settings = new Configuration();
    settings.setString("execution.runtime-mode", "STREAMING");
    settings.setString("state.backend.type", "rocksdb");
    settings.setString("execution.checkpointing.dir", "file://" + arguments[3] + "/checkpoints");
    settings.setString("execution.checkpointing.interval", arguments[2] + "ms");
    settings.setString("execution.checkpointing.incremental", "true");
    settings.setString("io.tmp.dirs", arguments[3]);
    settings.setString("taskmanager.memory.managed.size", "1024m");
    settings.setString("pipeline.object-reuse", "true"); // no copies between chained operators
    StreamExecutionEnvironment environment = StreamExecutionEnvironment.getExecutionEnvironment(settings);
    environment.setParallelism(Integer.parseInt(arguments[1]));
    FileSource<String> file = FileSource.forRecordStreamFormat(new TextLineInputFormat(), new Path(arguments[0])).build();
    environment.fromSource(file, WatermarkStrategy.noWatermarks(), "payments").setParallelism(1)
        .flatMap(new Parse()).returns(Payment.class).setParallelism(1)
        .keyBy(payment -> payment.user, Types.STRING)
        .process(new Aggregate()).returns(Window.class)
        .sinkTo(new DiscardingSink<>());
    JobExecutionResult result = environment.execute("features");
    System.out.println("kept=" + result.getAccumulatorResult("kept") + " users=" + result.getAccumulatorResult("users")
        + " cents=" + result.getAccumulatorResult("cents"));
  }
}
