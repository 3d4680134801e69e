// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IMachineShares} from "../src/IMachineShares.sol";
import {ISettlementLedger} from "../src/ISettlementLedger.sol";
import {ITransferPolicy} from "../src/ITransferPolicy.sol";
import {MachineShares} from "../src/MachineShares.sol";
import {SharesTest} from "./SharesTest.sol";
import {TestToken} from "./Tokens.sol";
import {bound, vm} from "./Vm.sol";

/// @notice Lets only Alice and the issuer hold shares.
contract AliceOnly is ITransferPolicy {
    address private immutable _alice;

    constructor(address alice) {
        _alice = alice;
    }

    function allows(address, address to, uint256) external view returns (bool) {
        return to == _alice;
    }
}

/// @notice Shares: release, sharing, transfers, withdrawals.
contract SharesContractTest is SharesTest {
    function test_issued_whole_and_for_ever() public view {
        vm.assertEq(shares.totalSupply(), SUPPLY, "supply");
        vm.assertEq(shares.balanceOf(ISSUER), SUPPLY, "all of it the issuer's");
        vm.assertEq(shares.decimals(), 0, "shares are whole");
        vm.assertEq(keccak256(bytes(shares.machine())), keccak256("pv-1"), "machine");
        vm.assertEq(address(shares.token()), address(token), "the ledger's token");
    }

    function test_supply_and_machine_are_checked() public {
        vm.expectRevert(abi.encodeWithSelector(IMachineShares.SupplyOutOfRange.selector, 0));
        issue(0);
        vm.expectRevert(abi.encodeWithSelector(IMachineShares.SupplyOutOfRange.selector, 2 ** 64));
        issue(2 ** 64);
        issue(2 ** 64 - 1);
        vm.expectRevert(IMachineShares.MachineNameEmpty.selector);
        new MachineShares("", "", "", ledger, ISSUER, 1, ITransferPolicy(address(0)));
    }

    function test_income_is_released_evenly_over_seven_days() public {
        token.mint(address(shares), 7_000_000);
        vm.expectEmit(address(shares));
        emit IMachineShares.IncomeArrived(7_000_000, 7_000_000);
        shares.sync();
        vm.assertEq(shares.released(), 0, "nothing at once");
        for (uint256 day = 1; day <= 7; ++day) {
            wait(1 days);
            vm.assertEq(shares.released(), day * 1_000_000, "a seventh a day");
        }
        wait(100 days);
        vm.assertEq(shares.released(), 7_000_000, "and no more");
        vm.expectEmit(address(shares));
        emit IMachineShares.IncomeWithdrawn(ISSUER, CAROL, 7_000_000);
        vm.prank(ISSUER);
        vm.assertEq(shares.withdraw(CAROL), 7_000_000, "withdrawn");
        vm.expectRevert(abi.encodeWithSelector(IMachineShares.NothingToWithdraw.selector, ISSUER));
        withdraw(ISSUER);
    }

    function test_an_arrival_changes_nothing_for_the_one_before() public {
        pay(7_000);
        wait(3 days);
        pay(70_000);
        vm.assertEq(shares.released(), 3_000, "three days of the first");
        wait(4 days);
        vm.assertEq(shares.released(), 7_000 + 40_000, "all of the first, four days of the second");
        wait(3 days);
        vm.assertEq(shares.released(), 77_000, "all");
    }

    function test_a_claim_by_anyone_is_noted_later_and_lost_never() public {
        Payouts memory payouts = payoutsOf(address(shares), 700);
        uint256 one = activate(payouts);
        vm.prank(ANYONE);
        ledger.claim(address(shares), one, 700, proofOf(payouts, 0));
        vm.assertEq(shares.received(), 0, "not seen yet");
        wait(30 days);
        bytes32[] memory proof = proofOf(payouts, 0);
        vm.prank(ANYONE);
        vm.assertEq(shares.collect(one, 700, proof), 700, "claimed already: only noted");
        vm.assertEq(shares.collect(one, 700, proof), 0, "once");
        wait(RELEASE);
        vm.assertEq(withdraw(ISSUER), 700, "all of it");
    }

    function test_collect_claims_from_the_ledger() public {
        Payouts memory payouts = payoutsOf(address(shares), 700);
        uint256 one = activate(payouts);
        bytes32[] memory proof = proofOf(payouts, 0);
        vm.assertEq(shares.collect(one, 700, proof), 700, "arrived");
        vm.assertEq(ledger.claimedBy(address(shares)), 700, "claimed");
        vm.expectRevert(abi.encodeWithSelector(ISettlementLedger.ProofInvalid.selector, one, address(shares), 701));
        shares.collect(one, 701, proof);
    }

    function test_transfers_settle_both_sides() public {
        give(ISSUER, ALICE, 500);
        pay(7_000);
        wait(1 days);
        give(ALICE, BOB, 250);
        wait(2 days);
        give(BOB, ALICE, 250);
        vm.assertEq(shares.withdrawable(ALICE), 500 + 500, "half a day's, then a quarter of two");
        vm.assertEq(shares.withdrawable(BOB), 500, "a quarter of two days");
        wait(4 days);
        give(ALICE, ALICE, 500);
        vm.assertEq(withdraw(ALICE) + withdraw(BOB) + withdraw(ISSUER), 7_000, "nothing is lost");
        vm.assertEq(token.balanceOf(ISSUER), 3_500, "the issuer's half");
    }

    function test_transferFrom_settles_as_well() public {
        pay(7_000);
        wait(RELEASE);
        vm.prank(ISSUER);
        shares.approve(ANYONE, SUPPLY);
        vm.prank(ANYONE);
        shares.transferFrom(ISSUER, ALICE, SUPPLY);
        vm.assertEq(shares.withdrawable(ALICE), 0, "what was released before is the issuer's");
        vm.assertEq(withdraw(ISSUER), 7_000, "also without a share left");
    }

    function test_withdraw_goes_where_the_holder_says() public {
        pay(700);
        wait(RELEASE);
        address[2] memory wrong = [address(0), address(shares)];
        for (uint256 i = 0; i < 2; ++i) {
            vm.expectRevert(abi.encodeWithSelector(IMachineShares.RecipientInvalid.selector, wrong[i]));
            vm.prank(ISSUER);
            shares.withdraw(wrong[i]);
        }
        vm.prank(ISSUER);
        shares.withdraw(CAROL);
        vm.assertEq(token.balanceOf(CAROL), 700, "to another account");
    }

    function test_shares_are_not_sent_to_themselves() public {
        vm.expectRevert(abi.encodeWithSelector(IMachineShares.RecipientInvalid.selector, address(shares)));
        give(ISSUER, address(shares), 1);
    }

    function test_a_policy_stops_transfers_and_no_withdrawal() public {
        shares = issue(SUPPLY, new AliceOnly(ALICE));
        give(ISSUER, ALICE, 500);
        vm.expectRevert(abi.encodeWithSelector(IMachineShares.TransferRefused.selector, ALICE, BOB, 1));
        give(ALICE, BOB, 1);
        pay(700);
        wait(RELEASE);
        vm.prank(ALICE);
        vm.assertEq(shares.withdraw(BOB), 350, "income goes anywhere");
    }

    /// @dev What the division leaves over stays the holder's, and is paid with the next income.
    function test_rests_are_kept() public {
        shares = issue(3);
        give(ISSUER, ALICE, 1);
        give(ISSUER, BOB, 1);
        pay(100);
        wait(RELEASE);
        vm.assertEq(withdraw(ALICE) + withdraw(BOB) + withdraw(ISSUER), 99, "33 each");
        pay(200);
        wait(RELEASE);
        vm.assertEq(withdraw(ALICE) + withdraw(BOB) + withdraw(ISSUER), 201, "67 each: the rest is back");
        vm.assertEq(token.balanceOf(address(shares)), 0, "no dust stays");
    }

    function test_a_gift_beyond_all_measure_stops_nobody() public {
        pay(700);
        token.mint(address(shares), type(uint256).max - 10 * MONEY);
        shares.sync();
        vm.assertEq(shares.received(), type(uint96).max, "counted up to the limit");
        wait(RELEASE);
        withdraw(ISSUER);
    }

    /// @dev Not supported: a balance that shrinks. Nothing is counted twice; the last to withdraw waits.
    function test_a_shrunken_balance_is_no_income_when_it_comes_back() public {
        give(ISSUER, ALICE, 500);
        pay(700);
        wait(RELEASE);
        token.burn(address(shares), 300);
        withdraw(ALICE);
        (bool ok,) = address(this).call(abi.encodeCall(this.withdrawOf, (ISSUER)));
        vm.assertTrue(!ok, "350 are not there");
        token.mint(address(shares), 300);
        vm.assertEq(withdraw(ISSUER), 350, "made good");
        vm.assertEq(shares.received(), 700, "and not counted again");
    }

    function withdrawOf(address holder) external returns (uint256) {
        return withdraw(holder);
    }

    /// @dev Against the definition: the sum over all arrivals, each released evenly over seven days of its own.
    function testFuzz_released_is_the_sum_over_arrivals(uint256 seed, uint8 count) public {
        uint256[] memory times = new uint256[](bound(count, 1, 40));
        uint256[] memory amounts = new uint256[](times.length);
        for (uint256 i = 0; i < times.length; ++i) {
            uint256 random = uint256(keccak256(abi.encode(seed, i)));
            wait(random % 4 == 0 ? 0 : random % (random % 3 == 0 ? 10 days : 1 days));
            (times[i], amounts[i]) = (block.timestamp, (random >> 64) % 1e24 + 1);
            pay(amounts[i]);
            uint256 sum = 0;
            for (uint256 k = 0; k <= i; ++k) {
                uint256 age = block.timestamp - times[k];
                sum += amounts[k] * (age < RELEASE ? age : RELEASE);
            }
            vm.assertEq(shares.released(), sum / RELEASE, "released");
        }
    }

    function testFuzz_nothing_is_lost_or_paid_twice(uint64 supply, uint96 income, uint256 part, uint32 time) public {
        supply = uint64(bound(supply, 1, type(uint64).max));
        income = uint96(bound(income, 1, type(uint96).max));
        shares = issue(supply);
        give(ISSUER, ALICE, bound(part, 0, supply));
        pay(income);
        wait(bound(time, 0, 8 days));
        uint256 alice = shares.withdrawable(ALICE);
        uint256 issuer = shares.withdrawable(ISSUER);
        vm.assertLe(alice + issuer, shares.released(), "never more than is released");
        vm.assertGe(alice + issuer + 1, shares.released(), "a holder misses less than one unit");
        if (alice > 0) withdraw(ALICE);
        vm.assertEq(shares.withdrawable(ISSUER), issuer, "what others do is nothing to the issuer");
    }

    function testFuzz_18_decimals(uint96 income) public {
        token = new TestToken(18);
        ledger = deploy(token, DELAY);
        shares = issue(SUPPLY);
        income = uint96(bound(income, 1e18, type(uint96).max));
        pay(income);
        wait(RELEASE);
        vm.assertEq(withdraw(ISSUER), income, "all of it");
    }
}
